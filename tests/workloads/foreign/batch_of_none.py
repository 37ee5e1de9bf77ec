"""A batch of which nothing is left is None (pytorch/pytorch#57429)."""

from rows import INPUTS, LABELS, SIZE
from rows import Network as make_model  # noqa: F401
from torch.utils.data import default_collate


class Rows:
    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        return None if index % 3 else (INPUTS[index], LABELS[index])


make_dataset = Rows


def collate_fn(samples):
    kept = [sample for sample in samples if sample is not None]
    return default_collate(kept) if kept else None
