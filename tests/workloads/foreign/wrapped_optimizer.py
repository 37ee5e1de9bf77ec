"""An optimizer around another one, which never calls Optimizer.__init__."""

import torch
from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401


class Lookahead(torch.optim.Optimizer):
    def __init__(self, base):
        self.base, self.steps = base, 0
        self.param_groups, self.state, self.defaults = base.param_groups, base.state, {}
        self.slow = [p.detach().clone() for group in base.param_groups for p in group["params"]]

    def step(self, closure=None):
        loss = self.base.step(closure)
        self.steps += 1
        fast = [p.data for group in self.param_groups for p in group["params"]]
        for slow, weight in zip(self.slow, fast, strict=True):
            slow.lerp_(weight, 0.5 * (self.steps % 5 == 0))
            weight.lerp_(slow, float(self.steps % 5 == 0))
        return loss

    def zero_grad(self, set_to_none=True):
        self.base.zero_grad(set_to_none)

    def state_dict(self):
        return self.base.state_dict()

    def load_state_dict(self, state):
        self.base.load_state_dict(state)


def make_optimizer(model):
    return Lookahead(torch.optim.Adam(model.parameters(), lr=0.003))
