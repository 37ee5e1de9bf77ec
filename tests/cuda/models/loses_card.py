"""A file whose card is lost at the first batch that is larger than the base; so is one in use."""

import os
from pathlib import Path

import torch
from torch import nn

from tests.cuda.models.mlp import make_batch, make_optimizer  # noqa: F401

BASE_BATCH_SIZE = 64


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(512, 1000)

    def forward(self, x):
        if len(x) > BASE_BATCH_SIZE:
            Path(os.environ["STAND_IN_LOST"]).touch()
            torch.cuda.synchronize()
        return self.layer(x)


def make_model():
    return Net()
