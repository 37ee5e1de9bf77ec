"""Gradient checkpointing, in either of torch's ways."""

import argparse

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=8)
parser.add_argument("--reentrant", action="store_true")
arguments = parser.parse_args()
torch.manual_seed(0)
model = nn.ModuleList([nn.Linear(16, 16) for _ in range(3)])
head = nn.Linear(16, 1)
optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=0.01)
for _ in range(300):
    inputs = values = torch.randn(arguments.batch_size, 16, requires_grad=True)
    for layer in model:
        values = checkpoint(layer, values, use_reentrant=arguments.reentrant)
    loss = nn.functional.mse_loss(head(values), inputs.detach().sum(1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
