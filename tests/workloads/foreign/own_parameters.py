"""parameters() returns groups for the optimizer."""

import torch
from rows import Network
from rows import make_rows as make_dataset  # noqa: F401


class Grouped(Network):
    def parameters(self):
        return [
            {"params": self.body.parameters()},
            {"params": self.head.parameters(), "lr": 0.2},
        ]


make_model = Grouped


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)
