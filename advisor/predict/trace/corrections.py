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
        self, func: Any, _types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operator and return its outputs at their real sizes."""
        result = func(*args, **(kwargs or {}))
        if func in _FIRST_AS_LARGE_AS_INPUT:
            shapes = [each.shape for each in args[:2] if isinstance(each, Tensor)]
            size = torch.broadcast_shapes(*shapes).numel()  # type: ignore[no-untyped-call]
            if size > result.numel():
                whole = torch.empty(size, dtype=result.dtype)
                return whole.as_strided(result.shape, result.stride())
        elif func is _BATCH_NORM:  # the statistics are float32 where input and parameters differ
            source, *parameters = args[:5]
            if any(each is not None and each.dtype != source.dtype for each in parameters):
                return (result[0], *(each.to(torch.float32) for each in result[1:]))
        elif func is _RECURRENT:
            size = self._find_workspace(args)
            return (*result[:3], torch.empty(size, dtype=result[3].dtype))
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
