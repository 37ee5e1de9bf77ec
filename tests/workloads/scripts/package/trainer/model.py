"""The model, by a relative import."""

from torch import nn


def make_model():
    """Return it."""
    return nn.Linear(8, 1)
