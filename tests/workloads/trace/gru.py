"""A recurrent classifier of gated units in both directions."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent = nn.GRU(12, 24, bidirectional=True, batch_first=True)
        self.head = nn.Linear(48, 4)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


def make_model():
    return Model()


def make_batch(batch_size):
    return torch.randn(batch_size, 9, 12), torch.randint(4, (batch_size,))
