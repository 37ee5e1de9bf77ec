"""A quarter of the samples is broken, and left out when a batch is made."""

from rows import INPUTS, LABELS, SIZE
from rows import Network as make_model  # noqa: F401
from torch.utils.data import default_collate


class Broken:
    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        return None if index % 4 == 0 else (INPUTS[index], LABELS[index])


make_dataset = Broken


def collate_fn(samples):
    return default_collate([sample for sample in samples if sample is not None])
