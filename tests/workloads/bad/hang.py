"""The forward pass never ends."""

import torch
from torch import nn


class Network(nn.Linear):
    def forward(self, inputs):
        while True:
            pass


def make_model():
    return Network(8, 3)


def make_batch(batch_size):
    return torch.randn(batch_size, 8), torch.randint(3, (batch_size,))
