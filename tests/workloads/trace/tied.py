"""Input and output share one table; the batch is a dict; one layer is frozen."""

import torch
from torch import nn
from torch.nn import functional


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(80, 32)
        self.inner = nn.Linear(32, 32)
        self.inner.requires_grad_(False)
        self.outer = nn.Linear(32, 32)
        self.head = nn.Linear(32, 80, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("scale", torch.ones(32))
        self.shift = torch.zeros(32)  # neither parameter nor buffer

    def forward(self, tokens, labels):
        x = self.outer(torch.relu(self.inner(self.table(tokens)))) * self.scale + self.shift
        logits = self.head(x)
        return {"loss": functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), "x": x}


def make_model():
    return Model()


def make_batch(batch_size):
    tokens = torch.randint(80, (batch_size, 8))
    return {"tokens": tokens[:, :-1], "labels": tokens[:, 1:]}
