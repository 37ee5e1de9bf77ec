"""An instance holds a weight that was computed of its parameters (locuslab/deq#23)."""

import torch
from rows import make_rows as make_dataset  # noqa: F401
from torch import nn
from torch.nn import functional


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.length = nn.Parameter(torch.ones(3, 1))
        self.direction = nn.Parameter(torch.randn(3, 8))
        self.compute()

    def compute(self):
        self.weight = self.length * functional.normalize(self.direction, dim=1)

    def forward(self, inputs):
        self.compute()
        return functional.linear(inputs, self.weight)


network = Normed()
