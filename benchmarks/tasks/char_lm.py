"""The next character of the manual inside Python from the eight before it, AdamW."""

from pydoc_data.topics import topics

import torch
from torch import nn
from torch.utils.data import TensorDataset

BASE_BATCH_SIZE = 64
TARGET_LOSS = 2.2
CONTEXT, VOCABULARY, SAMPLES = 8, 128, 20_000


def make_model():
    return nn.Sequential(
        nn.Embedding(VOCABULARY, 16), nn.Flatten(),
        nn.Linear(16 * CONTEXT, 128), nn.Tanh(), nn.Linear(128, VOCABULARY),
    )  # fmt: skip


def make_dataset():
    text = "\n".join(topics[name] for name in sorted(topics))
    codes = torch.frombuffer(bytearray(text.encode("ascii", "replace")), dtype=torch.uint8).long()
    windows = codes.unfold(0, CONTEXT + 1, 1)
    chosen = windows[:: len(windows) // SAMPLES][:SAMPLES]
    return TensorDataset(chosen[:, :-1].contiguous(), chosen[:, -1].contiguous())


def make_optimizer(model, lr=2e-3):
    return torch.optim.AdamW(model.parameters(), lr=lr)
