"""Sparse gradients: a bag of embeddings under SparseAdam."""

import torch
from torch import nn
from torch.utils.data import TensorDataset


def make_model():
    return nn.EmbeddingBag(500, 4, mode="mean", sparse=True)


def make_dataset():
    words = torch.randint(500, (256, 6), generator=torch.Generator().manual_seed(0))
    return TensorDataset(words, words[:, 0] % 4)


def make_optimizer(model):
    return torch.optim.SparseAdam(model.parameters(), lr=0.01)
