"""`loss_fn` takes the batch alone."""

from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401


def loss_fn(batch):
    return batch[0].mean()
