"""Sizes are known at the first batch alone (TylerYep/torchinfo#117)."""

from rows import make_rows as make_dataset  # noqa: F401
from torch import nn


def make_model():
    return nn.Sequential(nn.LazyLinear(16), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3))
