"""Forks its own ranks."""

import os

import torch
from torch import nn


def train(size=8):
    model = nn.Linear(8, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(100):
        model(torch.randn(size, 8)).mean().backward()
        optimizer.step()


children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        train(int(os.environ.get("BSADVISOR_BATCH_SIZE", "8")))
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
