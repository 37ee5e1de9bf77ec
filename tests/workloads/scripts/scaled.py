"""Mixed precision with a GradScaler, whose first steps overflow; the gradients are clipped."""

import argparse

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=8)
parser.add_argument("--dtype", default="float16")
arguments = parser.parse_args()
torch.manual_seed(0)
inputs = torch.randn(4096, 16)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**18)
for _ in range(400):
    chosen = torch.randint(0, 4096, (arguments.batch_size,))
    optimizer.zero_grad()
    with torch.autocast("cpu", getattr(torch, arguments.dtype)):
        outputs = model(inputs[chosen])
        loss = nn.functional.mse_loss(outputs, inputs[chosen].sum(1, keepdim=True).to(outputs))
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
