"""Linear regression on Gaussian inputs of uneven variance with noise on the targets, SGD."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

BASE_BATCH_SIZE = 16
DIMENSION, SAMPLES, NOISE = 50, 20_000, 1.0
#: 5 % above what the noise alone leaves, of the mean squared error.
TARGET_LOSS = 1.05 * NOISE**2


def make_model():
    return nn.Linear(DIMENSION, 1)


def make_dataset():
    generator = torch.Generator().manual_seed(0)
    spread = torch.arange(1, DIMENSION + 1) ** -0.5
    inputs = torch.randn(SAMPLES, DIMENSION, generator=generator) * spread
    weights = torch.randn(DIMENSION, 1, generator=generator)
    noise = NOISE * torch.randn(SAMPLES, 1, generator=generator)
    return TensorDataset(inputs, inputs @ weights + noise)


def make_optimizer(model, lr=0.05):
    return torch.optim.SGD(model.parameters(), lr=lr)
