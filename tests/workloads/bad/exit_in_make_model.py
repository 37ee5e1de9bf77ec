"""Ends its process without a word while the model is built."""

import os

import torch


def make_model():
    os._exit(0)


def make_batch(batch_size):
    return torch.randn(batch_size, 8), torch.randint(3, (batch_size,))
