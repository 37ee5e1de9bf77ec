"""Running statistics and other buffers of a model, put back after a look that must not count."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def preserve_buffers(model: nn.Module) -> Iterator[None]:
    """Put every buffer back as it was at the beginning of the block.

    A buffer that the block created, or gave another shape, is a cache of the model's and stays.
    """
    before = {name: value.clone() for name, value in model.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in model.named_buffers():
                old = before.get(name)
                if old is not None and old.shape == value.shape:
                    value.copy_(old)
