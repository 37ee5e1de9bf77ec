"""A model that prints at import and in every step: results on stdout must stay clean."""

import sys
import warnings

import torch
from torch import nn

print("imported", __name__)


class Chatty(nn.Linear):
    def forward(self, inputs):
        print("forward of", tuple(inputs.shape), "." * 500)
        print("to stderr as well", file=sys.stderr)
        warnings.warn("a warning in each step", stacklevel=2)
        return super().forward(inputs)


def make_model():
    return Chatty(8, 3)


def make_batch(batch_size):
    return torch.randn(batch_size, 8), torch.randint(3, (batch_size,))
