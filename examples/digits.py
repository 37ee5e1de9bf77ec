"""Real data that ships with scikit-learn: handwritten digits and a small perceptron.

Shows the whole answer: memory, throughput, gradient noise and learning rate. The loss is left to be
inferred (integer targets: cross-entropy).

    bsadvisor probe examples/digits.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Dataset, TensorDataset

BASE_BATCH_SIZE = 32  # the learning rate below was chosen for this batch


def make_model(hidden: int = 128) -> nn.Module:
    """Return a perceptron with one hidden layer; `--set hidden=256` widens it."""
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def make_dataset() -> Dataset:
    """Return the 1797 images of 8×8 pixels, scaled to [0, 1], with their labels."""
    images, labels = load_digits(return_X_y=True)
    inputs = torch.as_tensor(images, dtype=torch.float32) / 16  # the pixels count from 0 to 16
    return TensorDataset(inputs, torch.as_tensor(labels, dtype=torch.int64))


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Return plain SGD at the rate tuned for `BASE_BATCH_SIZE`."""
    return torch.optim.SGD(model.parameters(), lr=1.0)
