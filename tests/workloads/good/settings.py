"""Settings from the command line reach each function that has a parameter of that name."""

import torch
from torch import nn


def make_model(width: int = 8, activation: str = "relu"):
    middle = {"relu": nn.ReLU, "tanh": nn.Tanh}[activation]()
    return nn.Sequential(nn.Embedding(16, width), middle, nn.Linear(width, 16))


def make_batch(batch_size, seq_len=12):
    tokens = torch.randint(16, (batch_size, seq_len + 1))
    return tokens[:, :-1], tokens[:, 1:]


def make_optimizer(model, rate: float = 1e-3):
    return torch.optim.SGD(model.parameters(), lr=rate)
