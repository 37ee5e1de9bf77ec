"""Keeps the activations of every step, as a list of losses with their graphs does."""

import time

import torch
from torch import nn

WIDTH = 2**18  # floats: each step leaves at least a mebibyte behind
history = []


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 1)

    def forward(self, inputs):
        time.sleep(0.005)  # bounds what a fast machine can leak within a test's budget
        output = self.head(inputs)
        history.append(output.mean().expand(WIDTH).tanh())
        return output + history[-1].mean()


def make_model():
    return Network()


def make_batch(batch_size):
    return torch.randn(batch_size, 8), torch.randn(batch_size, 1)
