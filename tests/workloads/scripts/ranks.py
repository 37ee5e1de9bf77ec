"""Data parallel training as torchrun starts it: DDP, or FSDP2 with `--fsdp`."""

import argparse
import os
import time

import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--fsdp", action="store_true")
    parser.add_argument("--fails-on", type=int, default=-1)
    parser.add_argument("--slow-on", type=int, default=-1)
    parser.add_argument("--ends-on", type=int, default=-1)
    parser.add_argument("--hangs-on", type=int, default=-1)
    parser.add_argument("--waits-on", type=int, default=-1)
    settings = parser.parse_args()
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    torch.manual_seed(0)
    hidden = settings.hidden
    model = nn.Sequential(nn.Linear(32, hidden), nn.ReLU(), nn.Linear(hidden, 4))
    if settings.fsdp:
        fully_shard(
            model, mesh=distributed.init_device_mesh("cpu", (distributed.get_world_size(),))
        )
    else:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr)
    inputs = torch.randn(4096, 32)
    data = TensorDataset(inputs, (inputs @ torch.randn(32, 4)).argmax(1))
    sampler = DistributedSampler(data, shuffle=True)
    loader = DataLoader(data, settings.batch_size, sampler=sampler, drop_last=True)
    held = []
    for epoch in range(100):
        sampler.set_epoch(epoch)
        for index, (images, labels) in enumerate(loader, start=1):
            if rank == settings.ends_on and index == 3:
                os._exit(4)
            if rank == settings.hangs_on and index == 20:
                time.sleep(1e6)
            if rank == settings.waits_on and index == 20:
                distributed.barrier()
            if rank == settings.slow_on:
                torch.randn(400, 400) @ torch.randn(400, 400)
            if rank == settings.fails_on:
                held.append(torch.ones(settings.batch_size << 16))
            loss = nn.functional.cross_entropy(model(images), labels) / settings.accumulation
            loss.backward()
            if index % settings.accumulation == 0:
                optimizer.step()
                optimizer.zero_grad()
