"""A stream takes the batches of a loader apart again: its samples are samples."""

from rows import Network as make_model  # noqa: F401
from rows import make_rows
from torch.utils.data import DataLoader


def make_dataset():
    for inputs, labels in DataLoader(make_rows(), batch_size=16):
        yield from zip(inputs, labels, strict=True)
