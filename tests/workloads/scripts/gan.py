"""Two optimizers in turns."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=8)
size = parser.parse_args().batch_size
generator, judge = nn.Linear(4, 8), nn.Linear(8, 1)
first = torch.optim.Adam(judge.parameters(), lr=1e-3)
second = torch.optim.Adam(generator.parameters(), lr=1e-3)
for real in DataLoader(torch.randn(4096, 8), size, shuffle=True):
    fake = generator(torch.randn(len(real), 4))
    first.zero_grad()
    (judge(fake.detach()).mean() - judge(real).mean()).backward()
    first.step()
    second.zero_grad()
    (-judge(fake).mean()).backward()
    second.step()
