"""The noise scale of a transformer's normalisation layers beside that of its whole gradient.

A part of `monitor_value.py`.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor import NoiseScaleMonitor


class Transformer(nn.Module):
    """Tells the next of 32 symbols."""

    def __init__(self, width: int = 48, layers: int = 2, length: int = 32) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(32, width), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, 0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), False)
        self.last = nn.Linear(width, 32)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, symbols: Tensor) -> Tensor:
        """Return the logits of what follows."""
        places = torch.arange(symbols.shape[1])
        hidden = self.words(symbols) + self.places(places)
        logits: Tensor = self.last(self.layers(hidden, self.mask, is_causal=True))
        return logits


def run_transformer(steps: int, checks: int) -> list[dict[str, object]]:
    """Return both noise scales of a transformer in spans along training.

    Of one training: its steps are of 4 micro-batches, and each step's first is seen by examples.
    """
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    follows = torch.softmax(2.5 * torch.randn(32, 32, 32, generator=generator), -1)

    def draw(count: int) -> Tensor:
        symbols = torch.randint(0, 32, (count, 2), generator=generator)
        for _ in range(31):
            chances = follows[symbols[:, -2], symbols[:, -1]]
            symbols = torch.cat([symbols, torch.multinomial(chances, 1, generator=generator)], 1)
        return symbols

    def lose_words(model: nn.Module, symbols: Tensor) -> Tensor:
        logits = model(symbols[:, :-1])
        return nn.functional.cross_entropy(logits.flatten(0, 1), symbols[:, 1:].flatten())

    model = Transformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    found = []
    for span in range(checks):
        whole = NoiseScaleMonitor(model, optimizer, every=1, window=steps)
        with whole:
            for _ in range(steps):
                optimizer.zero_grad()
                for _ in range(4):
                    loss = lose_words(model, draw(16))
                    (loss / 4).backward()
                optimizer.step()
        still = torch.optim.SGD(model.parameters(), lr=0.0)
        layers = NoiseScaleMonitor(model, still, every=1, window=steps)
        with layers:
            for _ in range(steps):
                still.zero_grad()
                lose_words(model, draw(64)).backward()
                still.step()
        alone, together = layers.value, whole.value
        assert alone is not None
        assert together is not None
        found.append(
            {
                "at_step": (span + 1) * steps,
                "loss": loss.item(),
                "whole": [together.noise_scale, together.low, together.high],
                "layers": [alone.noise_scale, alone.low, alone.high],
            }
        )
        print(found[-1], file=sys.stderr)
    return found
