"""The batch does not fit the model."""

import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)

    def forward(self, inputs):
        return self.head(inputs)


def make_model():
    return Network()


def make_batch(batch_size):
    return torch.randn(batch_size, 9), torch.randint(3, (batch_size,))
