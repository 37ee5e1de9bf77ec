"""A perceptron under any of torch's optimizers: `--set name=RMSprop`."""

import torch
from torch import nn


def make_model():
    return nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 5)
    )


def make_batch(batch_size):
    return torch.randn(batch_size, 20), torch.randint(5, (batch_size,))


def make_optimizer(model, name="Adam", foreach=False, momentum=0.0):
    chosen = {"momentum": momentum} if momentum else {}
    return getattr(torch.optim, name)(model.parameters(), lr=1e-3, foreach=foreach, **chosen)
