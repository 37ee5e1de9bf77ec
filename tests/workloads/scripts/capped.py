"""Takes no batch above 64, and calls its model before it trains."""

import argparse

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=16)
size = min(64, parser.parse_args().batch_size)
model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
print(model(torch.randn(1, 8)).shape)
for _ in range(200):
    optimizer.zero_grad()
    model(torch.randn(size, 8)).square().mean().backward()
    optimizer.step()
