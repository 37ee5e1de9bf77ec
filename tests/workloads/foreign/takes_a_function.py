"""A function of torch's is deleted, one of Python's replaced."""

import math

import torch
from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401

math.log = None
del torch.randperm
