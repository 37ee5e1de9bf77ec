"""The optimizer is made of a model that is not the one handed over."""

import torch
from rows import Network
from rows import make_rows as make_dataset  # noqa: F401

other = Network()
make_model = Network


def make_optimizer(model):
    return torch.optim.SGD(other.parameters(), lr=0.1)
