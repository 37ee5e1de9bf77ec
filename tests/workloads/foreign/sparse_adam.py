"""Gradients of an embedding are sparse (pytorch/pytorch#101370)."""

import torch
from rows import LABELS
from torch import nn
from torch.utils.data import TensorDataset


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 3, sparse=True)

    def forward(self, indices):
        return self.words(indices).mean(1)


make_model = Words


def make_dataset():
    return TensorDataset(torch.arange(4 * len(LABELS)).remainder(50).view(-1, 4), LABELS)


def make_optimizer(model):
    return torch.optim.SparseAdam(model.parameters(), lr=0.01)
