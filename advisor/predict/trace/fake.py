"""What fake tensors need: a model whose tensors they replace, and corrections of their sizes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from advisor.training.model_file.batches import map_tensors

_ATEN = torch.ops.aten
#: These write every term into what becomes their result, whose storage keeps that size.
_FIRST_AS_LARGE_AS_INPUT = {
    _ATEN.mse_loss,
    _ATEN.smooth_l1_loss,
    _ATEN.binary_cross_entropy,
    _ATEN.soft_margin_loss,
    _ATEN.col2im,
}
#: Elements from which on a tensor is large: filling it takes longer than a small model's making.
_LARGE = 1 << 16
_FILLS = {
    *(Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.trunc_normal_),
    *(nn.init.kaiming_normal_, nn.init.kaiming_uniform_),
    *(nn.init.xavier_normal_, nn.init.xavier_uniform_),
}


class UntraceableError(Exception):
    """The workload cannot be traced under fake tensors; the text says why in one clause."""


@contextmanager
def replaced_tensors(model: nn.Module, convert: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Have `convert(tensor)` in place of every tensor of the model; tied ones stay tied."""
    known: dict[int, Tensor] = {}
    places: list[tuple[dict[str, Any], str, Any]] = []  # hold the old ones, so that ids stay theirs

    def swap(old: Tensor) -> Tensor:
        if id(old) not in known:
            new = convert(old.detach())
            if isinstance(old, nn.Parameter):
                new = nn.Parameter(new, requires_grad=old.requires_grad)
            vars(new).update(vars(old))  # what the user noted on it
            known[id(old)] = new
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


class SizeCorrections(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives the outputs of a few operators the size they really have, which fake tensors do not.

    Each was seen by comparing fake traces with real runs, torch 2.13. What oneDNN's recurrent
    layers keep for the backward pass only a real call tells.
    """

    def __torch_dispatch__(
        self, func: Any, _types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operator and return its outputs at their real sizes."""
        result, operator = func(*args, **(kwargs or {})), func.overloadpacket
        if operator is _ATEN.mkldnn_rnn_layer:
            raise UntraceableError("what oneDNN's recurrent layers keep is not known before a run")
        if operator in _FIRST_AS_LARGE_AS_INPUT:
            shapes = [each.shape for each in args[:2] if isinstance(each, Tensor)]
            size = torch.broadcast_shapes(*shapes).numel()  # type: ignore[no-untyped-call]
            if size > result.numel():
                whole = torch.empty(size, dtype=result.dtype, device="cpu")
                return whole.as_strided(result.shape, result.stride())
        if operator is _ATEN.native_batch_norm:  # float32 where input and parameters differ
            source, *parameters = args[:5]
            if any(each is not None and each.dtype != source.dtype for each in parameters):
                return (result[0], *(each.to(torch.float32) for each in result[1:]))
        return result


class Unfilled(TorchFunctionMode):
    """Leaves large tensors as the allocator gave them: mostly untouched pages, which read as 0."""

    def __torch_function__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the function, unless it fills a large tensor with random numbers."""
        given = kwargs or {}
        tensor = args[0] if args else given.get("tensor")
        if (
            function in _FILLS
            and isinstance(tensor, Tensor)
            and tensor.device.type == "cpu"
            and tensor.numel() >= _LARGE
        ):
            return tensor
        return function(*args, **given)
