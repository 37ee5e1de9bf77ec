"""make_batch returns the same number of samples whatever it is asked for."""

import torch
from torch import nn


def make_model():
    return nn.Linear(8, 3)


def make_batch(batch_size):
    return torch.randn(16, 8), torch.randint(3, (16,))
