"""Its structure follows the batch: one projection for every four samples."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 3)

    def forward(self, x):
        return torch.cat([self.layer(part) for part in x.split(4)])


def make_model():
    return Model()


def make_batch(batch_size):
    return torch.randn(batch_size, 16), torch.randint(3, (batch_size,))
