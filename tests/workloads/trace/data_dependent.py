"""What is computed depends on values: `--set how=nonzero` or `item`."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how
        self.first, self.second = nn.Linear(16, 40), nn.Linear(40, 3)

    def forward(self, x):
        hidden = self.first(x)
        if self.how == "item":
            hidden = hidden * float(hidden.abs().max().item())
        else:
            rows = (hidden.sum(1) > -1e9).nonzero()[:, 0]
            hidden = hidden.index_select(0, rows)
        return self.second(hidden)


def make_model(how: str = "item"):
    return Model(how)


def make_batch(batch_size):
    return torch.randn(batch_size, 16), torch.randint(3, (batch_size,))
