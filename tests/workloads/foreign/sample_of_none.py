"""One sample is None, and torch makes the batches (pytorch/pytorch#74337)."""

from rows import INPUTS, LABELS, SIZE
from rows import Network as make_model  # noqa: F401


class Rows:
    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        return None if index == 60 else (INPUTS[index], LABELS[index])


make_dataset = Rows
