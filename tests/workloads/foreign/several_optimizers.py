"""Sparse and dense parameters have an optimizer each."""

import torch
from rows import LABELS
from torch import nn
from torch.utils.data import TensorDataset


def make_model():
    return nn.Sequential(nn.EmbeddingBag(50, 8, sparse=True), nn.Linear(8, 3))


def make_dataset():
    return TensorDataset(torch.arange(4 * len(LABELS)).remainder(50).view(-1, 4), LABELS)


def make_optimizer(model):
    return {
        "sparse": torch.optim.SparseAdam(model[0].parameters()),
        "dense": torch.optim.AdamW(model[1].parameters()),
    }
