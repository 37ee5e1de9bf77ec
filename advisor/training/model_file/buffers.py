"""Running statistics and other buffers of a model, put back after a look that must not count."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


@contextmanager
def preserve_buffers(model: nn.Module) -> Iterator[None]:
    """Put every buffer, and what is carried in attributes, back as it was before the block."""
    carried = CarriedState(model)
    before = {name: value.clone() for name, value in model.named_buffers() if not is_lazy(value)}
    try:
        yield
    finally:
        carried.restore()
        restore_buffers(model, before)


def restore_buffers(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Give the buffers their former values.

    One that is new, or has another shape now, is a cache of the model's and stays.
    """
    with torch.no_grad():
        for name, value in model.named_buffers():
            old = before.get(name)
            if old is None or old.shape != value.shape:
                continue
            try:
                value.copy_(old)
            except RuntimeError:  # an expanded view, or made in inference mode
                owner, _, own_name = name.rpartition(".")
                model.get_submodule(owner)._buffers[own_name] = old.to(value.device)  # noqa: SLF001


class CarriedState:
    """What a model keeps in plain attributes, as it is now.

    Some models carry a hidden state, detached, from batch to batch, or a place in a queue that
    batches fill: it fits one batch size.
    """

    def __init__(self, model: nn.Module) -> None:
        self._before = [(module, _own_attributes(module)) for module in model.modules()]
        self._counters = {name: value.clone() for name, value in _list_counters(model)}
        self._model = model

    def restore(self, *, counts: bool = False) -> bool:
        """Put back the attributes that hold tensors; return whether one had changed.

        `counts` puts whole numbers back too, in buffers and attributes.
        """
        has_changed = False
        for module, known in self._before:
            for name, value in _own_attributes(module).items():
                before = known.get(name)
                is_state = _holds_tensor(value) or _holds_tensor(before)
                is_count = counts and type(before) is int and value != before
                if not is_count and (not is_state or _identify(value) == _identify(before)):
                    continue
                has_changed = True
                if name in known:
                    is_container = isinstance(before, list | dict)
                    vars(module)[name] = copy.copy(before) if is_container else before
                else:
                    del vars(module)[name]
        for name, value in _list_counters(self._model) if counts else ():
            before = self._counters.get(name)
            if before is not None and not torch.equal(value, before):
                value.copy_(before)
                has_changed = True
        return has_changed


#: Entries of a buffer of counters at most: larger ones are tables.
_MOST_COUNTERS = 64


def _list_counters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the small buffers of whole numbers."""
    for name, value in model.named_buffers():
        is_small = not is_lazy(value) and value.numel() <= _MOST_COUNTERS
        if is_small and not (value.is_floating_point() or value.is_complex()):
            yield name, value


#: Attributes of every module, which are no state of the user's.
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def _own_attributes(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of the user's, containers of them copied."""
    return {
        name: copy.copy(value) if isinstance(value, list | dict) else value
        for name, value in vars(module).items()
        if name not in _OF_EVERY_MODULE
    }


def _identify(value: object) -> object:
    """Return what is equal where two values are, or hold, the same objects."""
    if isinstance(value, dict):
        return {key: id(each) for key, each in value.items()}
    return [*map(id, value)] if isinstance(value, list) else id(value)


def _holds_tensor(value: object) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(map(_holds_tensor, value))
    return isinstance(value, Tensor)
