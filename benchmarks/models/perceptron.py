"""Wide hidden layers under AdamW."""

import torch
from torch import nn


def make_model():
    return nn.Sequential(
        nn.Linear(16, 24576), nn.ReLU(), nn.Linear(24576, 16), nn.ReLU(), nn.Linear(16, 10)
    )


def make_batch(batch_size):
    return torch.randn(batch_size, 16), torch.randint(0, 10, (batch_size,))
