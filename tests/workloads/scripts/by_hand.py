"""Moves its parameters by hand, as torch's example of a word language model."""

import argparse

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=16)
size = parser.parse_args().batch_size
model = nn.Linear(8, 1)
while True:
    model.zero_grad()
    model(torch.randn(size, 8)).square().mean().backward()
    for parameter in model.parameters():
        parameter.data.add_(parameter.grad, alpha=-0.01)
