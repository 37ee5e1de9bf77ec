"""Parameters and their gradients are complex."""

import torch
from rows import make_rows as make_dataset  # noqa: F401
from torch import nn

BASE_BATCH_SIZE = 16


class Spectral(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3, dtype=torch.complex64))

    def forward(self, inputs):
        return (torch.fft.rfft(inputs) @ self.weight).abs()


make_model = Spectral


def make_optimizer(model):
    return torch.optim.Adam(model.parameters(), lr=0.01)
