"""An LSTM over a sequence, read at its end."""

import torch
from torch import nn

LENGTH, FEATURES, WIDTH = 96, 16, 32


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent = nn.LSTM(FEATURES, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, sequence):
        hidden, _ = self.recurrent(sequence)
        return self.head(hidden[:, -1])


def make_model():
    return Model()


def make_batch(batch_size):
    return torch.randn(batch_size, LENGTH, FEATURES), torch.randint(0, 10, (batch_size,))
