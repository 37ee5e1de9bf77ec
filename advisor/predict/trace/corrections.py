"""Where fake tensors differ in size from what the operators really make, put right.

Each was seen by comparing fake traces with real runs, torch 2.13.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

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


class SizeCorrections(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives the outputs of a few operators the size they really have."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._workspaces: dict[tuple[Any, ...], int] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operator and return its outputs at their real sizes."""
        del types
        result = func(*args, **(kwargs or {}))
        if func in _FIRST_AS_LARGE_AS_INPUT:
            return _enlarge(result, [each for each in args[:2] if isinstance(each, Tensor)])
        if func is _BATCH_NORM:
            return _widen_statistics(args, result)
        if func is _RECURRENT:
            size = self._find_workspace(args)
            return (*result[:3], torch.empty(size, dtype=result[3].dtype))
        if func is _RECURRENT_BACKWARD:  # both biases have a gradient of their own
            return (*result[:4], torch.empty_like(result[4]), *result[5:])
        return result

    def _find_workspace(self, args: tuple[Any, ...]) -> int:
        """Return what oneDNN keeps for the backward pass, which only a real call tells."""
        key = tuple(_key_of(each) for each in args)
        if key not in self._workspaces:
            with _disable_current_modes(), torch.enable_grad():  # else it keeps nothing
                real = [
                    torch.zeros(each.shape, dtype=each.dtype) if isinstance(each, Tensor) else each
                    for each in args
                ]
                self._workspaces[key] = _RECURRENT(*real)[3].numel()
        return self._workspaces[key]


def _enlarge(result: Tensor, inputs: list[Tensor]) -> Tensor:
    """Return the result in a storage with room for the inputs, broadcast to each other."""
    shapes = [each.shape for each in inputs]
    size = torch.broadcast_shapes(*shapes).numel()  # type: ignore[no-untyped-call]
    if size <= result.numel():
        return result
    return torch.empty(size, dtype=result.dtype).as_strided(result.shape, result.stride())


def _key_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        return (tuple(value.shape), value.dtype)
    return tuple(value) if isinstance(value, list) else value


def _widen_statistics(args: tuple[Any, ...], result: Any) -> Any:
    """Return the result with statistics in float32 where input and parameters differ in type."""
    source, *parameters = args[:5]
    if all(each is None or each.dtype == source.dtype for each in parameters):
        return result
    output, *statistics = result
    return (output, *(each.to(torch.float32) for each in statistics))
