"""step() moves along the gradient that is there, and then asks a closure for another."""

import torch
from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401


class Sharp(torch.optim.SGD):
    def step(self, closure=None):
        parameters = [p for group in self.param_groups for p in group["params"]]
        steps = [
            0.05 * p.grad / torch.stack([q.grad.norm() for q in parameters]).norm()
            for p in parameters
        ]
        for p, step in zip(parameters, steps, strict=True):
            p.data.add_(step)
        with torch.enable_grad():
            closure()
        for p, step in zip(parameters, steps, strict=True):
            p.data.sub_(step)
        super().step()


def make_optimizer(model):
    return Sharp(model.parameters(), lr=0.1)
