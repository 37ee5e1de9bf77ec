"""Classes are one-hot rows of integers."""

from rows import INPUTS, LABELS, Network
from torch.nn.functional import one_hot
from torch.utils.data import TensorDataset

make_model = Network


def make_dataset():
    return TensorDataset(INPUTS, one_hot(LABELS, 3))
