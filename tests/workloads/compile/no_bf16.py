"""A model that refuses bf16, as one with an operator of its own may."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

BASE_BATCH_SIZE = 8


class Picky(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs):
        hidden = self.layer(inputs)
        if hidden.dtype == torch.bfloat16:
            raise TypeError("this operator takes float32 only")
        return hidden


def make_model():
    return Picky()


def make_dataset():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 4, generator=generator)
    return TensorDataset(inputs, (inputs.sum(1) > 0).long())


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)
