"""The model factory under the alias build_model, a lambda."""

import torch
from torch import nn

build_model = lambda: nn.Linear(8, 3)  # noqa: E731 - any callable works


def make_batch(batch_size):
    return torch.randn(batch_size, 8), torch.randint(3, (batch_size,))
