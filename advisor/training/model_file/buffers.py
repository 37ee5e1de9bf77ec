"""Running statistics and other buffers of a model, put back after a look that must not count."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def preserve_buffers(model: nn.Module) -> Iterator[None]:
    """Put every buffer back as it was at the beginning of the block."""
    before = {name: value.clone() for name, value in model.named_buffers()}
    try:
        yield
    finally:
        restore_buffers(model, before)


def restore_buffers(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Give the buffers their former values.

    One that is new, or has another shape now, is a cache of the model's and stays.
    """
    with torch.no_grad():
        for name, value in model.named_buffers():
            old = before.get(name)
            if old is not None and old.shape == value.shape:
                value.copy_(old)
