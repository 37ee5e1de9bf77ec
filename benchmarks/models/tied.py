"""A language model whose embedding is also its output layer."""

import torch
from torch import nn

LENGTH, VOCABULARY, WIDTH = 32, 2000, 32


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, 0.0, batch_first=True)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.layer(self.embedding(tokens)))


def make_model():
    return Model()


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def make_batch(batch_size):
    tokens = torch.randint(0, VOCABULARY, (batch_size, LENGTH))
    return tokens, tokens
