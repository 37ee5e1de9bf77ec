"""A language model of a billion parameters: 34 layers, width 1536, context 1024, and its data.

Its parameters are constants: a billion random numbers take the host a long time, and no memory.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).parent))

import gpt2

BASE_BATCH_SIZE = 8
CONTEXT, SAMPLES = 1024, 4096


make_optimizer = gpt2.make_optimizer


def make_model() -> nn.Module:
    """Return the model."""
    with torch.device("meta"):
        model = gpt2.make_model(layers=34, width=1536, heads=16, context=CONTEXT)
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.02)
    return model


def make_dataset() -> TensorDataset:
    """Return random tokens."""
    return TensorDataset(gpt2.make_batch(SAMPLES, CONTEXT))


def loss_fn(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    """Return the mean cross-entropy over all positions."""
    return gpt2.loss_fn(model, batch[0])
