"""Samples are objects of the user's, and so are batches; twenty of them are much larger."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Clip:
    signal: torch.Tensor
    label: int


class Batch:
    def __init__(self, clips):
        self.signals = torch.cat([clip.signal for clip in clips])
        self.owners = torch.cat([torch.full(clip.signal.shape, i) for i, clip in enumerate(clips)])
        self.labels = torch.tensor([clip.label for clip in clips])

    def to(self, device):
        self.signals = self.signals.to(device)


class Clips:
    def __len__(self):
        return 400

    def __getitem__(self, index):
        return Clip(torch.ones(900 if index >= 380 else 10), index % 3)


make_dataset = Clips
collate_fn = Batch


def make_model():
    return nn.Linear(1, 3)


def loss_fn(model, batch):
    places = model(batch.signals.unsqueeze(1))
    pooled = torch.zeros(len(batch.labels), 3).index_add(0, batch.owners, places)
    return nn.functional.cross_entropy(pooled, batch.labels)
