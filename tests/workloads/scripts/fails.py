"""Fails before its first step."""

import os

import torch
from torch import nn

size = int(os.environ.get("BSADVISOR_BATCH_SIZE", "8"))
model = nn.Linear(8, 2)
model(torch.randn(size, 9)).mean().backward()
