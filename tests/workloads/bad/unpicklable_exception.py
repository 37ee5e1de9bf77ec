"""Raises an exception that can be neither pickled nor printed."""

import threading

import torch
from torch import nn


class HostileError(Exception):
    def __init__(self, message, lock):
        super().__init__(message, lock, lambda: None)

    def __str__(self):
        raise RuntimeError("no text for you")

    __repr__ = __str__


class Network(nn.Linear):
    def forward(self, inputs):
        raise HostileError("broken", threading.Lock())


def make_model():
    return Network(8, 3)


def make_batch(batch_size):
    return torch.randn(batch_size, 8), torch.randint(3, (batch_size,))
