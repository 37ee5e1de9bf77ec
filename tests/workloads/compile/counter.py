"""A model that changes with every call, so that torch.compile never ends compiling it."""

import torch
from torch import nn


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs):
        self.calls += 1
        return self.layer(inputs) * self.calls**-0.5


def make_model():
    return Counter()


def make_batch(batch_size):
    return torch.randn(batch_size, 4), torch.randint(0, 2, (batch_size,))
