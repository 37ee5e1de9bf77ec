"""The DataLoader's batches come from a batch sampler."""

from rows import Network, make_rows
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

make_model = Network


def make_dataset():
    rows = make_rows()
    return DataLoader(rows, batch_sampler=BatchSampler(RandomSampler(rows), 12, drop_last=True))
