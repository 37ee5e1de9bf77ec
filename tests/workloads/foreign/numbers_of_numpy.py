"""Settings of the file are scalars of numpy; factories are partial functions."""

import functools

import numpy as np
import torch
from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401

BASE_BATCH_SIZE, CLIP_GRAD_NORM = np.int64(16), np.float32(1.5)


def make(rate, model):
    return torch.optim.SGD(model.parameters(), lr=rate)


make_optimizer = functools.partial(make, 0.1)
