"""Ranks that take the samples of each step in turns, so that any number of them sees the same."""

import argparse
import os

import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--accumulation", type=int, default=1)
parser.add_argument("--fsdp", action="store_true")
settings = parser.parse_args()
rank, ranks = (
    int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1))
)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
inputs = torch.randn(8192, 8)
targets = inputs @ torch.randn(8, 1) + torch.randn(8192, 1)
if ranks > 1:
    distributed.init_process_group("gloo")
    if settings.fsdp:
        fully_shard(model, mesh=distributed.init_device_mesh("cpu", (ranks,)))
    else:
        model = DistributedDataParallel(model)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(1000):
    for part in range(settings.accumulation):
        size = settings.batch_size * ranks
        first = (step * settings.accumulation + part) * size
        own = torch.arange(first, first + size)[rank::ranks] % len(inputs)
        loss = nn.functional.mse_loss(model(inputs[own]), targets[own])
        (loss / settings.accumulation).backward()
    optimizer.step()
    optimizer.zero_grad()
