"""Inputs of 8 bits cannot be asked whether they are finite."""

import torch
from rows import INPUTS, LABELS
from rows import Network as make_model  # noqa: F401
from torch.nn import functional
from torch.utils.data import TensorDataset


def make_dataset():
    return TensorDataset(INPUTS.to(torch.float8_e4m3fn), LABELS)


def loss_fn(model, batch):
    return functional.cross_entropy(model(batch[0].float()), batch[1])
