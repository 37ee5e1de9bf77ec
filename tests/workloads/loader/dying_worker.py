"""A dataset that a background worker cannot read: its process ends."""

import os
import time

import torch
from torch import nn
from torch.utils.data import Dataset, get_worker_info


class Dying(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        if get_worker_info() is not None:
            os._exit(1)
        time.sleep(0.001)
        inputs = torch.full((4,), index / 64)
        return inputs, inputs.sum().reshape(1)


def make_model():
    return nn.Linear(4, 1)


def make_dataset():
    return Dying()
