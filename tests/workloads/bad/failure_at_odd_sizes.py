"""Halves its batch, so that odd sizes above one fail."""

import torch
from torch import nn


class Network(nn.Linear):
    def forward(self, inputs):
        if len(inputs) > 1:
            first, second = inputs.view(2, len(inputs) // 2, 8)
            inputs = torch.cat([first, second])
        return super().forward(inputs)


def make_model():
    return Network(8, 3)


def make_batch(batch_size):
    return torch.randn(batch_size, 8), torch.randint(3, (batch_size,))
