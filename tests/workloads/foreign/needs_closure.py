"""A subclass of an optimizer that evaluates the loss itself."""

import torch
from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401


class Careful(torch.optim.LBFGS):
    pass


def make_optimizer(model):
    return Careful(model.parameters(), lr=0.1, max_iter=2)
