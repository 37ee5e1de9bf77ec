"""step() needs a closure, though its signature does not say so."""

import torch
from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401


class TwoSteps(torch.optim.SGD):
    def step(self, closure=None):
        assert closure is not None, "a closure is required"
        return super().step(closure)


def make_optimizer(model):
    return TwoSteps(model.parameters(), lr=0.1)
