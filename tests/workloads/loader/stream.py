"""A slow stream that divides its samples among the workers, and ends."""

import time

import torch
from torch import nn
from torch.utils.data import IterableDataset, get_worker_info


class Stream(IterableDataset):
    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for index in range(first, self.samples, step):
            time.sleep(0.01)
            inputs = torch.full((4,), index / self.samples)
            yield inputs, inputs.sum().reshape(1)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, inputs):
        time.sleep(0.03)
        return self.layer(inputs)


def make_model():
    return Model()


def make_dataset(samples: int = 240):
    return Stream(samples)
