"""An instance under the old weight norm was used already (pytorch/pytorch#102981)."""

import warnings

import torch
from rows import make_rows as make_dataset  # noqa: F401
from torch import nn
from torch.nn.utils import weight_norm

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    network = nn.Sequential(weight_norm(nn.Linear(8, 16)), nn.ReLU(), nn.Linear(16, 3))
assert network(torch.zeros(2, 8)).shape == (2, 3)
