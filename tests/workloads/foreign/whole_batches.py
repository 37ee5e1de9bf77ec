"""The loader's dataset gives whole batches."""

from rows import INPUTS, LABELS
from rows import Network as make_model  # noqa: F401
from torch.utils.data import DataLoader, TensorDataset


def make_dataset():
    batches = TensorDataset(INPUTS.reshape(-1, 16, 8), LABELS.reshape(-1, 16))
    return DataLoader(batches, batch_size=None)
