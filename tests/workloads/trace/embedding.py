"""A bag of words with a sum over an embedding table."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(500, 32, mode="sum")
        self.words = nn.Embedding(500, 32, padding_idx=0)
        self.head = nn.Linear(32, 6)

    def forward(self, words):
        return self.head(self.bag(words) + self.words(words).mean(1))


def make_model():
    return Model()


def make_batch(batch_size):
    return torch.randint(500, (batch_size, 11)), torch.randint(6, (batch_size,))
