"""Starts its ranks by torch.multiprocessing."""

import os

import torch.multiprocessing


def train(rank):
    print(rank, os.environ.get("BSADVISOR_BATCH_SIZE"))


if __name__ == "__main__":
    torch.multiprocessing.spawn(train, nprocs=2)
