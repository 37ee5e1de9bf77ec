"""A model's tensors replaced by others, such as fake ones, for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from advisor.training.model_file.batches import map_tensors


@contextmanager
def replaced_tensors(model: nn.Module, convert: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Have `convert(tensor)` in place of every tensor of the model; tied ones stay tied."""
    known: dict[int, Tensor] = {}
    places: list[tuple[dict[str, Any], str, Any]] = []  # hold the old ones, so that ids stay theirs

    def swap(old: Tensor) -> Tensor:
        if id(old) not in known:
            known[id(old)] = _convert_one(old, convert)
        return known[id(old)]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):  # noqa: SLF001
            places += [(tensors, name, old) for name, old in tensors.items() if old is not None]
        places += [(vars(module), name, old) for name, old in plain_tensors(module).items()]
    for holder, name, old in places:
        holder[name] = map_tensors(old, swap)
    try:
        yield
    finally:
        for holder, name, old in places:
            holder[name] = old


def plain_tensors(module: nn.Module) -> dict[str, Any]:
    """Return the attributes that are tensors, or lists, tuples or dicts of nothing else."""
    return {
        name: value
        for name, value in vars(module).items()
        if name not in {"_parameters", "_buffers"} and _is_plain(value)
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, Tensor):
        return True
    if not isinstance(value, list | tuple | dict) or not value:
        return False
    parts = value.values() if isinstance(value, dict) else value
    return all(isinstance(part, Tensor) for part in parts)


def _convert_one(old: Tensor, convert: Callable[[Tensor], Tensor]) -> Tensor:
    new = convert(old.detach())
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    vars(new).update(vars(old))  # what the user noted on it
    return new
