"""A small transformer with dropout: the logits are its largest tensors."""

import torch
from torch import nn

LENGTH, VOCABULARY, WIDTH = 64, 1000, 32


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.1, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens):
        hidden = self.embedding(tokens)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden)


def make_model():
    return Model()


def make_batch(batch_size):
    tokens = torch.randint(0, VOCABULARY, (batch_size, LENGTH))
    return tokens, tokens
