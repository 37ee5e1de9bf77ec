"""A stream states its length in batches (pytorch/pytorch#40972)."""

from rows import INPUTS, LABELS, SIZE
from rows import Network as make_model  # noqa: F401
from torch.utils.data import IterableDataset


class Rows(IterableDataset):
    def __iter__(self):
        return zip(INPUTS, LABELS, strict=True)

    def __len__(self):
        return SIZE // 16


make_dataset = Rows
