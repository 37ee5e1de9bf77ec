"""Every sample waits, as for a disk; a step waits as well, so that the right number is known.

Where `notes` names a file, each adds a line to it with the seconds that it really took.
"""

import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

BASE_BATCH_SIZE = 8


def note(what, began_s, notes):
    if notes:
        with Path(notes).open("a", encoding="utf-8") as file:
            print(what, time.perf_counter() - began_s, file=file)


class Slow(Dataset):
    def __init__(self, sample_s, notes):
        self.sample_s, self.notes = sample_s, notes

    def __len__(self):
        return 4096

    def __getitem__(self, index):
        began_s = time.perf_counter()
        time.sleep(self.sample_s)
        note("sample", began_s, self.notes)
        inputs = torch.full((4,), index / 4096)
        return inputs, inputs.sum().reshape(1)


class Model(nn.Module):
    def __init__(self, step_s, notes):
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.step_s, self.notes = step_s, notes

    def forward(self, inputs):
        self.began_s = time.perf_counter()
        time.sleep(self.step_s)
        return self.layer(inputs)


def make_model(step_s: float = 0.03, notes: str = ""):
    return Model(step_s, notes)


def make_dataset(sample_s: float = 0.01, workers: int = 0, notes: str = ""):
    samples = Slow(sample_s, notes)
    return DataLoader(samples, BASE_BATCH_SIZE, num_workers=workers) if workers else samples


def make_optimizer(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    optimizer.register_step_post_hook(lambda *_: note("step", model.began_s, model.notes))
    return optimizer
