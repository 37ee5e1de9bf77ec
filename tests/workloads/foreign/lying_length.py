"""A stream states a length that it does not have."""

from rows import INPUTS, LABELS
from rows import Network as make_model  # noqa: F401
from torch.utils.data import IterableDataset


class Lying(IterableDataset):
    def __len__(self):
        return 100_000

    def __iter__(self):
        return zip(INPUTS, LABELS, strict=True)


make_dataset = Lying
