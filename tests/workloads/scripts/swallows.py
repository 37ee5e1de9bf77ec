"""Catches whatever its loop raises, and saves in the end."""

import os
import sys
from pathlib import Path

import torch
from torch import nn

size = int(os.environ.get("BSADVISOR_BATCH_SIZE", "16"))
model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
try:
    for _ in range(200):
        optimizer.zero_grad()
        model(torch.randn(size, 64)).square().mean().backward()
        optimizer.step()
except Exception as error:
    print("going on after", error, file=sys.stderr)
finally:
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text("saved")
