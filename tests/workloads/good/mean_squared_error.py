"""Float targets of the output's shape: the loss is inferred to be the mean squared error."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

BASE_BATCH_SIZE = 8


def make_model():
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))


def make_dataset():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 4, generator=generator)
    noise = torch.randn(256, 2, generator=generator)
    return TensorDataset(inputs, inputs[:, :2] * inputs[:, 2:] + 0.3 * noise)


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)
