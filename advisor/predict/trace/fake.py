"""What fake tensors need: a model whose tensors they replace, and corrections of their sizes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from advisor.training.model_file.batches import map_tensors

_ATEN = torch.ops.aten
_BATCH_NORM = _ATEN.native_batch_norm.default
_RECURRENT = _ATEN.mkldnn_rnn_layer.default
_RECURRENT_BACKWARD = _ATEN.mkldnn_rnn_layer_backward.default
#: These write every term into what becomes their result, whose storage keeps that size.
_FIRST_AS_LARGE_AS_INPUT = {
    _ATEN.mse_loss.default,
    _ATEN.smooth_l1_loss.default,
    _ATEN.binary_cross_entropy.default,
    _ATEN.soft_margin_loss.default,
    _ATEN.col2im.default,
}
#: Elements from which on a tensor is large: filling it takes longer than a small model's making.
_LARGE = 1 << 16
_FILLS = {
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
    torch.nn.init.kaiming_normal_,
    torch.nn.init.kaiming_uniform_,
    torch.nn.init.normal_,
    torch.nn.init.trunc_normal_,
    torch.nn.init.uniform_,
    torch.nn.init.xavier_normal_,
    torch.nn.init.xavier_uniform_,
}


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

    Each was seen by comparing fake traces with real runs, torch 2.13.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._workspaces: dict[tuple[Any, ...], int] = {}

    def __torch_dispatch__(
        self, func: Any, _types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operator and return its outputs at their real sizes."""
        result = func(*args, **(kwargs or {}))
        if func in _FIRST_AS_LARGE_AS_INPUT:
            shapes = [each.shape for each in args[:2] if isinstance(each, Tensor)]
            size = torch.broadcast_shapes(*shapes).numel()  # type: ignore[no-untyped-call]
            if size > result.numel():
                whole = torch.empty(size, dtype=result.dtype, device="cpu")
                return whole.as_strided(result.shape, result.stride())
        elif func is _BATCH_NORM:  # the statistics are float32 where input and parameters differ
            source, *parameters = args[:5]
            if any(each is not None and each.dtype != source.dtype for each in parameters):
                return (result[0], *(each.to(torch.float32) for each in result[1:]))
        elif func is _RECURRENT:
            size = self._find_workspace(args)
            return (*result[:3], torch.empty(size, dtype=result[3].dtype, device="cpu"))
        elif func is _RECURRENT_BACKWARD:  # both biases have a gradient of their own
            return (*result[:4], torch.empty_like(result[4]), *result[5:])
        return result

    def _find_workspace(self, args: tuple[Any, ...]) -> int:
        """Return what oneDNN keeps for the backward pass, which only a real call tells."""
        key = tuple(
            (each.shape, each.dtype) if isinstance(each, Tensor) else str(each) for each in args
        )
        if key not in self._workspaces:
            with _disable_current_modes(), torch.enable_grad():  # else it keeps nothing
                real = [
                    torch.zeros(each.shape, dtype=each.dtype) if isinstance(each, Tensor) else each
                    for each in args
                ]
                self._workspaces[key] = _RECURRENT(*real)[3].numel()
        return self._workspaces[key]


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
            and isinstance(tensor, torch.Tensor)
            and tensor.device.type == "cpu"
            and tensor.numel() >= _LARGE
        ):
            return tensor
        return function(*args, **given)
