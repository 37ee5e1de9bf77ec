"""Is killed in the forward pass, as by the kernel when memory runs out."""

import os
import signal

import torch
from torch import nn


class Network(nn.Linear):
    def forward(self, inputs):
        os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(inputs)


def make_model():
    return Network(8, 3)


def make_batch(batch_size):
    return torch.randn(batch_size, 8), torch.randint(3, (batch_size,))
