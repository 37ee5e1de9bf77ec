"""Digits whose samples wait, as for a disk, in a loader with workers of its own; steps wait too."""

import time

import torch
from lightning import LightningDataModule
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

BASE_BATCH_SIZE = 32


class Waiting(Dataset):
    def __init__(self, wait_s):
        images, labels = load_digits(return_X_y=True)
        self.inputs = torch.as_tensor(images, dtype=torch.float32) / 16
        self.labels = torch.as_tensor(labels, dtype=torch.int64)
        self.wait_s = wait_s

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        if self.wait_s:
            time.sleep(self.wait_s)
        return self.inputs[index], self.labels[index]


class Data(LightningDataModule):
    def __init__(self, workers: int = 2, wait_s: float = 5e-4, persistent: bool = False):
        super().__init__()
        self.options = {"num_workers": workers, "persistent_workers": persistent}
        self.wait_s = wait_s

    def train_dataloader(self):
        dataset = Waiting(self.wait_s)
        return DataLoader(dataset, 32, shuffle=True, drop_last=True, **self.options)


class Net(nn.Sequential):
    def __init__(self, step_s):
        super().__init__(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        self.step_s = step_s

    def forward(self, inputs):
        time.sleep(self.step_s * len(inputs))
        return super().forward(inputs)


def make_model(step_s: float = 2e-4):
    return Net(step_s)


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)
