"""Batches and samples of any structure: rebuilt, moved, counted and split.

Whatever user code hands over is a tree: tensors and other leaves in mappings, lists, tuples and the
attributes of objects. Nothing of it is changed in place.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advisor.training.model_file.foreign import attribute_of

#: Objects that are no containers of samples, whatever their attributes hold.
_OPAQUE = (Tensor, str, bytes, type, FunctionType, MethodType, ModuleType, nn.Module)
#: Containers within containers looked into; what lies deeper, or in a circle, is no batch.
_DEPTH = 8

_CONTAINERS = (Mapping, list, tuple)
_PLAIN = frozenset((dict, list, tuple))

Parts = dict[Any, Any]


class UnsplittableError(Exception):
    """Which part of the batch belongs to which sample cannot be told."""


def parts_of(value: object) -> Parts | None:
    """Return what the value holds by key, place or attribute; None for a leaf."""
    if isinstance(value, _OPAQUE):
        return None
    if isinstance(value, Mapping):
        return dict(value.items())
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    parts: Parts = dict(attribute_of(value, "__dict__") or ())
    for class_ in type(value).__mro__:
        slots = class_.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            part = attribute_of(value, name)
            if part is not None:
                parts[name] = part
    return parts or None


def rebuild(value: Any, parts: Parts) -> Any:
    """Return a container or object like `value`, holding these parts."""
    try:
        if isinstance(value, tuple):
            return tuple.__new__(type(value), parts.values())
        made = copy.copy(value)  # keeps what a subclass has beside its items
        if isinstance(value, Mapping):
            for key, each in parts.items():
                made[key] = each
        elif isinstance(value, list):
            made[:] = parts.values()
        else:
            before = parts_of(value) or {}
            for name, each in parts.items():
                if each is not before[name]:
                    object.__setattr__(made, name, each)
    except Exception:  # noqa: BLE001 - a container that cannot be copied or written to
        return parts if isinstance(value, Mapping) else value
    return made


def map_leaves(
    value: Any,
    function: Callable[[Any], Any],
    *,
    is_leaf: Callable[[Any], bool] = lambda _value: False,
    copies_objects: bool = False,
    depth: int = _DEPTH,
) -> Any:
    """Return the value with `function` applied to each leaf, in new containers.

    An object in which nothing changes is the same object, unless objects are copied too.
    """
    parts = parts_of(value) if depth and not is_leaf(value) else None
    if parts is None:
        return function(value)
    options: Any = {"is_leaf": is_leaf, "copies_objects": copies_objects, "depth": depth - 1}
    mapped = {key: map_leaves(each, function, **options) for key, each in parts.items()}
    is_copied = copies_objects or isinstance(value, _CONTAINERS)
    if is_copied or any(mapped[key] is not parts[key] for key in parts):
        return rebuild(value, mapped)
    return value


def map_tensors(batch: Any, function: Callable[[Tensor], Any]) -> Any:
    """Return the batch with `function` applied to each tensor in it, in new containers."""
    return map_leaves(batch, lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf)


def arrive(batch: Any) -> Iterator[Any]:
    """Yield the batch, then copies of it, each made while the last one is held: as a loader's."""
    while True:
        yield batch
        batch = map_tensors(
            batch, lambda tensor: tensor.detach().clone().requires_grad_(tensor.requires_grad)
        )


def hand_out(batch: Any) -> Any:
    """Return the batch in new containers with the same tensors: user code may pop, add, replace."""
    kind = type(batch)
    if kind in _PLAIN:  # in every step that is timed
        held = batch.values() if kind is dict else batch
        if all(type(each) is Tensor for each in held):
            return kind(batch)
    return map_leaves(batch, lambda leaf: leaf, is_leaf=_is_without_tensors, copies_objects=True)


def _is_without_tensors(value: Any) -> bool:
    """Return whether it is an object of no concern, which might be costly to copy."""
    return not isinstance(value, _CONTAINERS) and next(tensors_of(value), None) is None


def leaves_of(batch: Any, depth: int = _DEPTH) -> Iterator[Any]:
    """Yield every leaf in the batch."""
    parts = parts_of(batch) if depth else None
    if parts is None:
        yield batch
        return
    for each in parts.values():
        yield from leaves_of(each, depth - 1)


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """Yield every tensor in the batch."""
    return (leaf for leaf in leaves_of(batch) if isinstance(leaf, Tensor))


def to_device(batch: Any, device: torch.device) -> Any:
    """Return the batch on `device`; an object with its own `to` moves itself, wherever it lies.

    Tensors leave the graph behind by which the dataset computed them: batches are used again.
    """

    def move(leaf: Any) -> Any:
        moved = leaf
        if isinstance(leaf, Tensor) and device.type == "cuda" and leaf.is_pinned():
            moved = leaf.to(device, non_blocking=True)  # out of memory that was pinned for it
        elif _moves_itself(leaf):
            moved = leaf.to(device)
        if isinstance(moved, Tensor) and moved.grad_fn is not None:
            return moved.detach().requires_grad_()
        return leaf if moved is None else moved  # where it moved in place

    return map_leaves(batch, move, is_leaf=_moves_itself)


def _moves_itself(value: object) -> bool:
    """Return whether it has a `to`; asked of the class, as some objects take any name for a key."""
    return isinstance(value, Tensor) or (
        callable(getattr(type(value), "to", None)) and not isinstance(value, _OPAQUE)
    )


def count_fields(batch: Any) -> dict[Any, int]:
    """Return how much each field of the batch holds: elements, characters, numbers."""
    parts = parts_of(batch) or {None: batch}
    return {key: sum(map(_count_leaf, leaves_of(each))) for key, each in parts.items()}


def _count_leaf(leaf: Any) -> int:
    if isinstance(leaf, Tensor):
        return leaf.numel()
    if isinstance(leaf, str | bytes):
        return len(leaf)
    size = attribute_of(leaf, "size")  # a numpy array's number of elements, an image's sides
    if isinstance(size, tuple) and all(isinstance(side, int) for side in size):
        return math.prod(size)
    return size if isinstance(size, int) else 1


def is_finite(value: Any) -> bool:
    """Return whether a tensor holds no NaN or infinity, or that cannot be told of the value."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return True
    try:
        has_fractions = value.is_floating_point() or value.is_complex()
        return not has_fractions or bool(value.isfinite().all())
    except Exception:  # noqa: BLE001 - nested ones, types of 8 bits, subclasses that refuse
        return True


def pick_rows(batch: Any, single: Any, double: Any, rows: Sequence[int], count: int) -> Any:
    """Return the part of a batch of `count` samples that belongs to the samples at `rows`.

    `single` is collated of one sample taken `count` times, `double` of the same taken twice as
    often: as both are padded alike, whatever differs grows with the batch. A row may come twice.

    Raises:
        UnsplittableError: A part grows with the batch but not by one for each sample.
    """
    is_tensor = isinstance(batch, Tensor) and batch.dim() > 0 and not batch.is_nested
    if is_tensor or isinstance(batch, np.ndarray):
        index = torch.tensor(rows, device=batch.device) if is_tensor else rows
        for axis in _find_axes(batch, single, double, count):
            batch = batch.index_select(axis, index) if is_tensor else batch.take(index, axis)
        return batch
    parts, ones, twos = parts_of(batch), parts_of(single), parts_of(double)
    if parts is None or ones is None or twos is None:
        return _pick_of_leaf(batch, single, double, rows, count)
    sizes = (len(parts), len(ones), len(twos))
    if isinstance(batch, list | tuple) and sizes == (count, count, 2 * count):
        return type(batch)(parts[row] for row in rows)
    if not parts.keys() == ones.keys() == twos.keys():
        raise UnsplittableError
    picked = {key: pick_rows(parts[key], ones[key], twos[key], rows, count) for key in parts}
    return rebuild(batch, picked)


def _find_axes(batch: Any, single: Any, double: Any, count: int) -> list[int]:
    """Return the axes of a tensor or an array along which it has its samples."""
    shapes = [each.shape for each in (batch, single, double) if isinstance(each, type(batch))]
    if len(shapes) != 3 or len(set(map(len, shapes))) != 1:
        raise UnsplittableError
    axes = []
    for axis, sides in enumerate(zip(*shapes, strict=True)):
        if sides == (count, count, 2 * count):
            axes.append(axis)
        elif sides[1] != sides[2]:  # rows of all samples one after another, as in a graph
            raise UnsplittableError
    return axes


def _pick_of_leaf(
    leaf: Any, single: object, double: object, rows: Sequence[int], count: int
) -> Any:
    """Return a leaf that is the same in every batch, or counts the samples of its own."""
    if isinstance(leaf, Tensor) and leaf.dim():
        raise UnsplittableError
    if _is_same(single, double):
        return leaf
    if not (_is_same(leaf, count) and _is_same(single, count) and _is_same(double, 2 * count)):
        raise UnsplittableError
    return leaf * 0 + len(rows)


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two leaves are equal, as far as they can be compared."""
    try:
        return one is other or bool(one == other) or bool(one != one and other != other)  # noqa: PLR0124 - NaN
    except Exception:  # noqa: BLE001 - objects of the user's may refuse, or have no one answer
        return False
