"""Samples vary in length; padding to the longest makes the largest samples the worst batch."""

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence


class Recordings:
    """A map-style dataset that does not derive from torch's."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        lengths = torch.randint(5, 60, (128,), generator=generator)
        lengths[77] = 400  # the one long recording that decides what fits
        self.samples = [torch.randn(n, 3, generator=generator) for n in lengths.tolist()]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        sample = self.samples[index]
        return sample, int(sample.mean() > 0)


class Recogniser(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(3, 8, 5, padding=2)
        self.head = nn.Linear(8, 2)

    def forward(self, inputs):
        return self.head(self.layer(inputs.transpose(1, 2)).relu().mean(2))


def collate_fn(samples):
    recordings, labels = zip(*samples, strict=True)
    return pad_sequence(recordings, batch_first=True), torch.tensor(labels)


def make_model():
    return Recogniser()


def make_dataset():
    return Recordings()
