"""The dataset has no samples, as after a wrong path."""

import torch
from torch import nn
from torch.utils.data import TensorDataset


def make_model():
    return nn.Linear(8, 3)


def make_dataset():
    return TensorDataset(torch.empty(0, 8), torch.empty(0, dtype=torch.int64))
