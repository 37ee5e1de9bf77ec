"""The perceptrons of benchmarks/data/a100_mlp_memory.csv."""

from itertools import pairwise

import torch
from torch import nn


def make_model(in_features: int = 16, linear_widths: str = "8 4"):
    """Return Linear and ReLU by turns; the last width is the output layer's."""
    widths = [in_features, *(int(width) for width in linear_widths.split())]
    layers = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def make_optimizer(model):
    """Return Adam with torch's defaults."""
    return torch.optim.Adam(model.parameters())


def make_batch(batch_size, in_features: int = 16, out_features: int = 4):
    """Return random inputs and classes."""
    return torch.randn(batch_size, in_features), torch.randint(0, out_features, (batch_size,))
