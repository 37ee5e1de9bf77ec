"""The output layer shares its weight with the embedding: one parameter, counted once."""

import torch
from torch import nn
from torch.utils.data import TensorDataset


class Bigrams(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(24, 8)
        self.head = nn.Linear(8, 24, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


def make_model():
    return Bigrams()


def make_dataset():
    tokens = torch.randint(24, (256, 9), generator=torch.Generator().manual_seed(0))
    return TensorDataset(tokens[:, :-1], tokens[:, 1:])
