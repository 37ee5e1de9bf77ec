"""The dataset is shorter than it says."""

from rows import INPUTS, LABELS
from rows import Network as make_model  # noqa: F401


class Rows:
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        return INPUTS[index], LABELS[index]


make_dataset = Rows
