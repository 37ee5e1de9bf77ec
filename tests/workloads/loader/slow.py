"""Every sample waits, as for a disk; a step waits as well, so that the right number is known."""

import time

import torch
from torch import nn
from torch.utils.data import Dataset

BASE_BATCH_SIZE = 8


class Slow(Dataset):
    def __init__(self, sample_s):
        self.sample_s = sample_s

    def __len__(self):
        return 4096

    def __getitem__(self, index):
        time.sleep(self.sample_s)
        inputs = torch.full((4,), index / 4096)
        return inputs, inputs.sum().reshape(1)


class Model(nn.Module):
    def __init__(self, step_s):
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.step_s = step_s

    def forward(self, inputs):
        time.sleep(self.step_s)
        return self.layer(inputs)


def make_model(step_s: float = 0.03):
    return Model(step_s)


def make_dataset(sample_s: float = 0.01):
    return Slow(sample_s)


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.01)
