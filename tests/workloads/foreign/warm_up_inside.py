"""A scheduler made beside the optimizer has set the rate of its first step, which is 0."""

import torch
from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401

BASE_BATCH_SIZE = 16


def make_optimizer(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 100))
    return optimizer
