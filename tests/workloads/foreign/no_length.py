"""The dataset has no length."""

from rows import INPUTS, LABELS
from rows import Network as make_model  # noqa: F401
from torch.utils.data import Dataset


class Rows(Dataset):
    def __getitem__(self, index):
        return INPUTS[index], LABELS[index]


make_dataset = Rows
