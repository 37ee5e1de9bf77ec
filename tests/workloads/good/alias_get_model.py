"""The model factory under the alias get_model, beside a module that is not the model."""

import torch
from torch import nn

teacher = nn.Linear(8, 100)


def get_model():
    return nn.Linear(8, 3)


def make_batch(batch_size):
    return torch.randn(batch_size, 8), torch.randint(3, (batch_size,))
