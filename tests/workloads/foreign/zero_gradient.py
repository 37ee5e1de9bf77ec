"""The start predicts every target exactly, so that each gradient is 0."""

import torch
from rows import INPUTS, SIZE
from torch import nn
from torch.utils.data import TensorDataset


def make_model():
    layer = nn.Linear(8, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def make_dataset():
    return TensorDataset(INPUTS, torch.zeros(SIZE, 1))
