"""The model factory under the alias create_model; the loss and the optimizer are left out."""

import torch
from torch import nn


def create_model():
    return nn.Linear(8, 3)


def make_batch(batch_size):
    return torch.randn(batch_size, 8), torch.randint(3, (batch_size,))
