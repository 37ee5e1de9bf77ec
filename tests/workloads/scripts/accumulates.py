"""A loop over batches of its own, accumulated, with a warm-up by hand, groups and clipping."""

import sys

import torch
from torch import nn

settings = dict(argument.split("=") for argument in sys.argv[1:])
size, accumulation = int(settings.get("batch", 12)), int(settings.get("accumulation", 3))
rate = float(settings.get("rate", 0.01))
torch.manual_seed(1337)
inputs = torch.randn(4096, 16)
targets = inputs @ torch.randn(16, 1)
model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=0.1)
for step in range(int(settings.get("steps", 400))):
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1.0, (step + 1) / 1000)
    for _ in range(accumulation):
        chosen = torch.randint(0, 4096, (size,))
        loss = nn.functional.mse_loss(model(inputs[chosen]), targets[chosen])
        (loss / accumulation).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
