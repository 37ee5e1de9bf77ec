"""The loss is not a number from the first step on."""

import torch
from torch import nn
from torch.utils.data import TensorDataset


def make_model():
    return nn.Linear(8, 1)


def make_dataset():
    return TensorDataset(torch.randn(64, 8), torch.randn(64, 1))


def loss_fn(model, batch):
    inputs, targets = batch
    return (model(inputs) - targets).square().mean() + torch.log(torch.tensor(-1.0))
