"""Sentences of varying length; the loss is the mean over tokens, so long samples weigh more."""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

PADDING = -100


class Sentences(Dataset):
    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        lengths = torch.randint(2, 20, (192,), generator=generator).tolist()
        self.samples = [torch.randint(1, 32, (n + 1,), generator=generator) for n in lengths]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        tokens = self.samples[index]
        return {"inputs": tokens[:-1], "targets": tokens[1:]}


def collate_fn(samples):
    return {
        "inputs": pad_sequence([sample["inputs"] for sample in samples], batch_first=True),
        "targets": pad_sequence(
            [sample["targets"] for sample in samples], batch_first=True, padding_value=PADDING
        ),
    }


def make_model():
    return nn.Sequential(nn.Embedding(32, 16), nn.Linear(16, 32))


def make_dataset():
    return Sentences()


def loss_fn(model, batch):
    logits = model(batch["inputs"]).transpose(1, 2)
    return functional.cross_entropy(logits, batch["targets"], ignore_index=PADDING)
