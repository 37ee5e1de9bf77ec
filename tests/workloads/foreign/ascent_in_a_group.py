"""One group climbs, as a penalty's weight does, beside one that trains."""

import torch
from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401


def make_optimizer(model):
    first, *others = model.parameters()
    optimizer = torch.optim.SGD([{"params": [first]}, {"params": others}], lr=0.1)
    optimizer.param_groups[0]["lr"] = -0.001
    return optimizer
