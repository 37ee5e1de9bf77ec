"""A model whose fifth batch brings a buffer in proportion to its size, once."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 1024), nn.ReLU(), nn.Linear(1024, 8))
        self.calls, self.history = 0, None

    def forward(self, inputs):
        self.calls += self.training
        samples = self.calls * len(inputs)
        if self.calls >= 5 and self.history is None and samples:
            self.history = torch.ones(len(inputs), 1 << 16)  # 256 KiB for each sample
        return self.layers(inputs)


def make_model():
    return Model()


def make_batch(batch_size):
    return torch.randn(batch_size, 64), torch.randint(0, 8, (batch_size,))


def loss_fn(model, batch):
    inputs, targets = batch
    return nn.functional.cross_entropy(model(inputs), targets)
