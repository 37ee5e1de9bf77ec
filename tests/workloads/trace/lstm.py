"""A recurrent classifier."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent = nn.LSTM(12, 24, num_layers=2, batch_first=True)
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


def make_model():
    return Model()


def make_batch(batch_size):
    return torch.randn(batch_size, 9, 12), torch.randint(4, (batch_size,))
