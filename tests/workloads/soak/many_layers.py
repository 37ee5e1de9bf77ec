"""Many layers of equal size: copying the state takes more than any step."""

import torch
from torch import nn


def make_model():
    return nn.Sequential(*(nn.Linear(512, 512) for _ in range(16)), nn.Linear(512, 8))


def make_batch(batch_size):
    return torch.randn(batch_size, 512), torch.randint(0, 8, (batch_size,))
