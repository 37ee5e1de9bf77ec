"""A frozen trunk and a trainable head, which alone is handed to the optimizer."""

import torch
from torch import nn
from torch.utils.data import TensorDataset


def make_model():
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    model[0].requires_grad_(False)
    return model


def make_dataset():
    inputs = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    return TensorDataset(inputs, inputs[:, :3].argmax(1))


def make_optimizer(model):
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.Adam(trainable, lr=1e-2)
