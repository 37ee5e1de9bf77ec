"""A model that changes with every call, so that torch.compile never ends compiling it."""

import torch
from torch import nn


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0
        self.layer = nn.Linear(4, 1001, bias=False)  # a product needs no kernel of its own

    def forward(self, inputs):
        self.calls += 1
        return torch.mm(inputs, self.layer.weight.narrow(0, 0, 1 + self.calls % 1000).t())


def make_model():
    return Counter()


def make_batch(batch_size):
    return torch.randn(batch_size, 4), torch.zeros(batch_size, dtype=torch.long)
