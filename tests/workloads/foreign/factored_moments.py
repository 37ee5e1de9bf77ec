"""The second moment is kept by a rule of its own, under Adam's name."""

import torch
from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401


class Factored(torch.optim.Optimizer):
    def __init__(self, parameters):
        super().__init__(parameters, {"lr": None, "eps": (1e-30, 1e-3), "decay_rate": -0.8})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if p.dim() > 1:
                    state["exp_avg_sq"] = p.grad.square().mean(0)
                else:
                    state["exp_avg_sq"] = p.grad.square()
                p.sub_(0.01 * p.grad / (state["exp_avg_sq"].sqrt() + group["eps"][1]))


def make_optimizer(model):
    return Factored(model.parameters())
