"""A large embedding table with a dense gradient: what is fixed takes most of a small limit."""

import torch
from torch import nn

WORDS, WIDTH, LENGTH = 60_000, 24, 512


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(WORDS, WIDTH)
        self.head = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, words):
        return self.head(self.table(words)).mean(1)


def make_model():
    return Model()


def make_batch(batch_size):
    return torch.randint(0, WORDS, (batch_size, LENGTH)), torch.randint(0, 2, (batch_size,))
