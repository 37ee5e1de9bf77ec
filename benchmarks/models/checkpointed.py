"""Blocks that recompute their activations in the backward pass."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

TOKENS, WIDTH, BLOCKS = 128, 16, 3


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.widen = nn.Linear(WIDTH, 8 * WIDTH)
        self.narrow = nn.Linear(8 * WIDTH, WIDTH)

    def forward(self, hidden):
        return hidden + self.narrow(nn.functional.gelu(self.widen(self.norm(hidden))))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, hidden):
        for block in self.blocks:
            hidden = checkpoint(block, hidden, use_reentrant=False)
        return self.head(hidden.mean(1))


def make_model():
    return Model()


def make_batch(batch_size):
    return torch.randn(batch_size, TOKENS, WIDTH), torch.randint(0, 10, (batch_size,))
