"""One parameter of two has sparse gradients (facebookresearch/dlrm#15)."""

import torch
from rows import LABELS
from torch import nn
from torch.utils.data import TensorDataset


def make_model():
    return nn.Sequential(nn.EmbeddingBag(50, 8, mode="sum", sparse=True), nn.Linear(8, 3))


def make_dataset():
    return TensorDataset(torch.arange(4 * len(LABELS)).remainder(50).view(-1, 4), LABELS)


def make_optimizer(model):
    return torch.optim.Adagrad(model.parameters(), lr=0.1)
