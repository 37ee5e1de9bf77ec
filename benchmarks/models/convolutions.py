"""Few, uneven channels: the library's own scratch memory is no tensor, and is not small."""

import torch
from torch import nn


def make_model():
    return nn.Sequential(
        nn.Conv2d(3, 12, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 20, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(320, 10),
    )


def make_batch(batch_size):
    return torch.randn(batch_size, 3, 40, 40), torch.randint(0, 10, (batch_size,))
