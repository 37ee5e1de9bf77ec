"""A language model of GPT-2's size: 12 layers, width 768, context 1024, 124 million parameters."""

import torch
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY = 50257


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm and beside a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_before_attention = nn.LayerNorm(width)
        self.projection = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm_before_perceptron = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the hidden states after this block."""
        batch, length, width = hidden.shape
        projected = self.projection(self.norm_before_attention(hidden))
        query, key, value = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in projected.chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.output(mixed.transpose(1, 2).reshape(batch, length, width))
        widened = functional.gelu(self.widen(self.norm_before_perceptron(hidden)))
        return hidden + self.narrow(widened)


class LanguageModel(nn.Module):
    """Tied embeddings, learned positions, pre-norm blocks."""

    def __init__(self, layers: int, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Parameter(torch.zeros(context, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the next token at each position."""
        hidden = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        return functional.linear(self.norm(hidden), self.embedding.weight)


def make_model(
    layers: int = 12, width: int = 768, heads: int = 12, context: int = 1024
) -> nn.Module:
    """Return the model."""
    return LanguageModel(layers, width, heads, context)


def make_batch(batch_size: int, context: int = 1024) -> Tensor:
    """Return random tokens; the last of each row is only a target."""
    return torch.randint(0, VOCABULARY, (batch_size, context + 1))


def loss_fn(model: nn.Module, tokens: Tensor) -> Tensor:
    """Return the mean cross-entropy over all positions."""
    logits = model(tokens[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Return AdamW."""
    return torch.optim.AdamW(model.parameters(), lr=3e-4)
