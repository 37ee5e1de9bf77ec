"""LBFGS, whose step wants a closure that it calls several times."""

import torch
from torch import nn
from torch.utils.data import TensorDataset


def make_model():
    return nn.Linear(8, 1)


def make_dataset():
    inputs = torch.randn(128, 8, generator=torch.Generator().manual_seed(0))
    return TensorDataset(inputs, inputs.sum(1, keepdim=True))


def make_optimizer(model):
    return torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
