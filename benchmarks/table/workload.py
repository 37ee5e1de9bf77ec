"""The model file of the memory table: which model, and which optimizer, are its settings."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import images
import sequences
import torch
from torch import Tensor, nn
from torch.nn import functional


def lose_classes(output: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
    """Return the cross-entropy."""
    return functional.cross_entropy(output, batch[1])


def lose_clicks(output: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
    """Return the binary cross-entropy."""
    return functional.binary_cross_entropy_with_logits(output, batch[1])


class Kind(NamedTuple):
    """A model, its batches, its loss, and a size that takes some hundred MiB."""

    make: Callable[[], nn.Module]
    make_batch: Callable[[int], tuple[Tensor, ...]]
    lose: Callable[[Any, Any], Tensor]
    size: int


KINDS = {
    "mlp": Kind(sequences.make_mlp, sequences.make_rows, lose_classes, 4096),
    "resnet": Kind(images.make_resnet, images.make_labelled, lose_classes, 64),
    "unet": Kind(images.UNet, images.make_masks, lose_classes, 32),
    "vit": Kind(images.VisionTransformer, images.make_labelled, lose_classes, 96),
    "detection": Kind(images.Detector, images.make_boxes, images.lose_boxes, 32),
    "lstm": Kind(sequences.Lstm, sequences.make_words, sequences.lose_words, 64),
    "gpt": Kind(sequences.Gpt, sequences.make_words, sequences.lose_words, 48),
    "checkpointed": Kind(
        lambda: sequences.Gpt(is_checkpointed=True),
        sequences.make_words,
        sequences.lose_words,
        64,
    ),
    "moe": Kind(
        lambda: sequences.Gpt(has_experts=True), sequences.make_words, sequences.lose_words, 48
    ),
    "bert": Kind(sequences.Bert, sequences.make_words, sequences.lose_words, 48),
    "ctc": Kind(sequences.Recogniser, sequences.make_sounds, sequences.lose_letters, 32),
    "embedding": Kind(sequences.Tables, sequences.make_features, lose_clicks, 8192),
}
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
    "adamw_fused": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, fused=True),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
}


def make_model(kind: str = "mlp") -> nn.Module:
    """Return the model."""
    return KINDS[kind].make()


def make_batch(batch_size: int, kind: str = "mlp") -> tuple[Tensor, ...]:
    """Return a batch; its values do not matter."""
    return KINDS[kind].make_batch(batch_size)


def loss_fn(model: nn.Module, batch: tuple[Tensor, ...], kind: str = "mlp") -> Tensor:
    """Return the loss."""
    return KINDS[kind].lose(model(batch[0]), batch)


def make_optimizer(model: nn.Module, optimizer: str = "adamw") -> torch.optim.Optimizer:
    """Return the optimizer."""
    return OPTIMIZERS[optimizer](model.parameters())
