"""step() needs a closure and returns a number."""

import torch
from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401


class Descent(torch.optim.SGD):
    def step(self, closure):
        return float(super().step(closure))


def make_optimizer(model):
    return Descent(model.parameters(), lr=0.1)
