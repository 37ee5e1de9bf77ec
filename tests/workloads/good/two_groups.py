"""A regression whose optimizer has two parameter groups, the second at a tenth of the rate."""

import torch
from torch import nn
from torch.utils.data import TensorDataset


def make_model():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


def make_dataset():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 4, generator=generator)
    return TensorDataset(inputs, inputs.sum(1, keepdim=True))


def make_optimizer(model, momentum: float = 0.0):
    groups = [
        {"params": model[0].parameters(), "lr": 0.1},
        {"params": model[2].parameters(), "lr": 0.01},
    ]
    return torch.optim.SGD(groups, momentum=momentum)
