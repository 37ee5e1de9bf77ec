"""Two factories; FILE:student picks the one that is not make_model."""

import torch
from torch import nn


def make_model():
    return nn.Linear(8, 200)


def student():
    return nn.Linear(8, 3)


def make_batch(batch_size):
    return torch.randn(batch_size, 8), torch.randint(3, (batch_size,))
