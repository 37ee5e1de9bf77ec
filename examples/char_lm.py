"""A small transformer that predicts the next character of the manual pages inside Python.

Shows dict batches with a loss of one's own, and settings: context and width come from the command
line, as in `--set seq_len=128`.

    bsadvisor probe examples/char_lm.py
"""

from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

BASE_BATCH_SIZE = 32
VOCABULARY = 128  # ASCII; other characters become "?"


class Windows(Dataset):
    """The text cut into windows that do not overlap, so that samples are independent."""

    def __init__(self, seq_len: int) -> None:
        text = "\n".join(topics[name] for name in sorted(topics))
        codes = torch.frombuffer(bytearray(text.encode("ascii", "replace")), dtype=torch.uint8)
        count = (len(codes) - 1) // seq_len
        self.inputs = codes[: count * seq_len].long().view(count, seq_len)
        self.targets = codes[1 : count * seq_len + 1].long().view(count, seq_len)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": self.inputs[index], "targets": self.targets[index]}


class CharacterModel(nn.Module):
    """A pre-norm transformer with learned positions."""

    def __init__(self, seq_len: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Parameter(torch.zeros(seq_len, width))
        options = {"dropout": 0.0, "batch_first": True, "norm_first": True}
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, **options)
        self.layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Linear(width, VOCABULARY)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(seq_len))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits of the next character at each position."""
        hidden = self.embedding(inputs) + self.positions
        return self.head(self.layers(hidden, mask=self.mask, is_causal=True))


def make_model(seq_len: int = 64, width: int = 64) -> nn.Module:
    """Return the transformer."""
    return CharacterModel(seq_len, width)


def make_dataset(seq_len: int = 64) -> Dataset:
    """Return the windows of the text."""
    return Windows(seq_len)


def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the mean cross-entropy over all characters."""
    logits = model(batch["inputs"]).transpose(1, 2)
    return functional.cross_entropy(logits, batch["targets"])


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Return AdamW at the rate tuned for `BASE_BATCH_SIZE`."""
    return torch.optim.AdamW(model.parameters(), lr=1e-3)
