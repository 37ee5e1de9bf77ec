"""SAM as its users have it: up along the gradient, a second backward pass, back, and a step."""

import argparse

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=8)
parser.add_argument("--data", action="store_true", help="move what .data is, past autograd's eyes")
arguments = parser.parse_args()
model = nn.Linear(16, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for _ in range(200):
    inputs = torch.randn(arguments.batch_size, 16)
    nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True)).backward()
    kept = [parameter.detach().clone() for parameter in model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            moved = parameter.data if arguments.data else parameter
            moved.add_(parameter.grad, alpha=0.05 / (1e-12 + parameter.grad.norm()))
    optimizer.zero_grad()
    nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True)).backward()
    for parameter, old in zip(model.parameters(), kept, strict=True):
        parameter.data = old
    optimizer.step()
    optimizer.zero_grad()
