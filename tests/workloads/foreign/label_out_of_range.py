"""One label is of no class."""

from rows import INPUTS, LABELS
from rows import Network as make_model  # noqa: F401
from torch.utils.data import TensorDataset


def make_dataset():
    labels = LABELS.clone()
    labels[200] = 7
    return TensorDataset(INPUTS, labels)
