"""A causal transformer whose attention is one operator."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        batch, length, width = x.shape
        parts = self.project(self.first(x)).view(batch, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.second(x))


class Model(nn.Module):
    def __init__(self, checkpointed, dropout):
        super().__init__()
        self.checkpointed = checkpointed
        self.tokens, self.places = nn.Embedding(96, 64), nn.Embedding(24, 64)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(64, 4) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 96, bias=False)

    def forward(self, tokens):
        x = self.drop(self.tokens(tokens) + self.places(torch.arange(tokens.shape[1])))
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        return self.head(self.norm(x))


def make_model(checkpointed: bool = False, dropout: float = 0.1):
    return Model(checkpointed, dropout)


def make_batch(batch_size):
    tokens = torch.randint(96, (batch_size, 25))
    return tokens[:, :-1], tokens[:, 1:]
