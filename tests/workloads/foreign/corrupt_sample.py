"""One sample cannot be read."""

from rows import INPUTS, LABELS, SIZE
from rows import Network as make_model  # noqa: F401


class Rows:
    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        if index == 77:
            raise OSError("image file is truncated")
        return INPUTS[index], LABELS[index]


make_dataset = Rows
