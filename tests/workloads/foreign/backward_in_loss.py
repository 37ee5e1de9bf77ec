"""The loss is differentiated where it is computed."""

from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401
from torch.nn import functional


def loss_fn(model, batch):
    loss = functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    return loss
