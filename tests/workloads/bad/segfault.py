"""Reads from address zero in the forward pass, as a broken extension does."""

import ctypes

import torch
from torch import nn


class Network(nn.Linear):
    def forward(self, inputs):
        ctypes.string_at(0)
        return super().forward(inputs)


def make_model():
    return Network(8, 3)


def make_batch(batch_size):
    return torch.randn(batch_size, 8), torch.randint(3, (batch_size,))
