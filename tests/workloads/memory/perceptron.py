"""Wide activations, Adam-sized optimizer state: the optimizer binds at small batches.

Three activations in a row fill the limit with few samples, each of which takes long to compute.
"""

import torch
from torch import nn


def make_model():
    return nn.Sequential(
        *(nn.Linear(256, 16384), nn.ReLU(), nn.Tanh(), nn.Sigmoid()),
        *(nn.Linear(16384, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def make_batch(batch_size):
    return torch.randn(batch_size, 256), torch.randint(0, 10, (batch_size,))
