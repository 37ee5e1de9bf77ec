"""Batches of any structure: moved, counted and halved without knowing what they mean."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def map_tensors(batch: Any, function: Callable[[Tensor], Any]) -> Any:
    """Return the batch with `function` applied to each tensor in it, its structure kept."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        mapped = {key: map_tensors(value, function) for key, value in batch.items()}
        try:
            return type(batch)(mapped)  # type: ignore[call-arg]
        except TypeError:
            return mapped
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(value, function) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(map_tensors(value, function) for value in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        values = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch) if f.init}
        return dataclasses.replace(
            batch, **{name: map_tensors(value, function) for name, value in values.items()}
        )
    return batch


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """Yield every tensor in the batch."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors_of(value)
    elif isinstance(batch, list | tuple):
        for value in batch:
            yield from tensors_of(value)
    elif dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        for field in dataclasses.fields(batch):
            yield from tensors_of(getattr(batch, field.name))


def to_device(batch: Any, device: torch.device) -> Any:
    """Return the batch on `device`; an object with its own `to` moves itself."""
    known = isinstance(batch, Tensor | Mapping | list | tuple) or dataclasses.is_dataclass(batch)
    if not known and hasattr(batch, "to"):
        return batch.to(device)
    return map_tensors(batch, lambda tensor: tensor.to(device))


def count_elements(sample: Any) -> int:
    """Return how much there is in a sample: elements of tensors and arrays, characters, numbers."""
    if isinstance(sample, Tensor):
        return sample.numel()
    if isinstance(sample, Mapping):
        return sum(count_elements(value) for value in sample.values())
    if isinstance(sample, list | tuple):
        return sum(count_elements(value) for value in sample)
    if isinstance(sample, str | bytes):
        return len(sample)
    size = getattr(sample, "size", 1)  # a numpy array's number of elements
    return size if isinstance(size, int) else 1
