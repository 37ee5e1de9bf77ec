"""Makes its steps of 64 samples, whatever a backward pass has."""

import argparse

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=16)
size = parser.parse_args().batch_size
model = nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for number in range(2000):
    (model(torch.randn(size, 8)).square().mean() * size / 64).backward()
    if (number + 1) % (64 // size) == 0:
        optimizer.step()
        optimizer.zero_grad()
