"""The gradients of single examples in the normalisation layers, where a step has one part alone.

Source: Gray et al. 2024, arXiv:2411.00999: in transformers they tell the whole gradient's noise.
"""

import copy
import functools
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from advisor.in_loop.parts import Stopwatch

#: Kinds of torch's own, whose forward is known.
_NATIVE = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)


class Examples(NamedTuple):
    """What one step showed, as the loss and its scale make it."""

    #: Of all micro-batches.
    examples: int
    #: Σ|g_i|² over them.
    sqnorm: float
    #: Σ g_i, of all layers; those of other ranks add up with it.
    total: Tensor


class ExampleNorms:
    """Sees the gradient that each example of one step adds to the weights of some layers."""

    def __init__(self, layers: Sequence[nn.Module], clock: Stopwatch) -> None:
        self._layers, self._clock = layers, clock
        self._size = self._count = 0
        #: Of the micro-batch that is seen, each example's row by layer and weight.
        self._rows: dict[tuple[int, str], Tensor] = {}
        self._sums: dict[tuple[int, str], Tensor] = {}
        self._sqnorms: list[Tensor] = []
        self._is_whole = True

    def watch(self, watching: ExitStack) -> None:
        """See the layers until `watching` is closed."""
        for place, layer in enumerate(self._layers):
            handle = layer.register_forward_hook(functools.partial(self._tap, place))
            watching.callback(handle.remove)

    @property
    def is_part_begun(self) -> bool:
        """Whether a gradient has come since the last part began."""
        return bool(self._rows)

    def begin_part(self, size: int) -> None:
        """Have the examples that come be so many of another micro-batch."""
        self._fold()
        self._size = size

    def finish(self) -> Examples | None:
        """Return what was seen; None where no layer, or not each example in it, was seen."""
        self._fold()
        if not self._sqnorms or not self._is_whole:
            return None
        device = self._sqnorms[0].device
        squares = torch.stack([each.to(device) for each in self._sqnorms]).tolist()
        found = [
            self._sums.get((place, name), torch.zeros(weight.numel())).to(device)
            for place, layer in enumerate(self._layers)
            for name, weight in layer.named_parameters(recurse=False)
        ]
        return Examples(self._count, math.fsum(squares), torch.cat(found))

    def _fold(self) -> None:
        for key, rows in self._rows.items():
            self._sqnorms.append(rows.square().sum())
            self._sums[key] = self._sums.get(key, 0) + rows.sum(0)
        self._count += self._size if self._rows else 0
        self._rows.clear()

    def _tap(self, place: int, layer: nn.Module, inputs: Any, output: Any) -> Any:
        if torch.compiler.is_compiling() or not self._size:
            return output
        if not (isinstance(output, Tensor) and output.requires_grad):
            return output
        see = functools.partial(self._see, place, layer)
        return _Tap.apply(output, inputs[0], see)  # type: ignore[no-untyped-call]

    def _see(self, place: int, layer: nn.Module, inputs: Tensor, gradient: Tensor) -> None:
        """Add a call of the layer to each example's row; not where examples are not its rows."""
        with self._clock:
            self._is_whole &= inputs.shape[0] % self._size == 0
            try:
                found = _list_rows(layer, inputs, gradient, self._size) if self._is_whole else []
            except Exception:  # noqa: BLE001 - a library's own layer, in the midst of a backward pass
                found, self._is_whole = [], False
            for name, rows in found:
                self._rows[place, name] = self._rows.get((place, name), 0) + rows


class _Tap(torch.autograd.Function):
    """Passes a layer's output on, and shows its gradient beside what went into the layer.

    The input is saved as a layer saves its own, so that checkpointing drops it and makes it again.
    """

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, inputs: Tensor, see: Callable[[Tensor, Tensor], None]
    ) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.see = see
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        with torch.no_grad():
            ctx.see(*ctx.saved_tensors, gradient)
        return gradient, None, None


def is_normalisation(layer: nn.Module) -> bool:
    """Return whether the layer normalises each example by itself and has weights that train.

    One of a library's own is known by its name and by its weights, a vector each.
    """
    own = [each for each in layer.parameters(recurse=False) if each.requires_grad]
    if not own or isinstance(layer, _NATIVE):
        return bool(own) and type(layer) in _NATIVE
    name = type(layer).__name__
    is_alone = next(layer.children(), None) is None
    return name.endswith(("RMSNorm", "LayerNorm")) and is_alone and all(p.ndim == 1 for p in own)


def _list_rows(
    layer: nn.Module, inputs: Tensor, gradient: Tensor, size: int
) -> list[tuple[str, Tensor]]:
    """Return each weight's gradient by example, in rows, of a layer's input and output gradient."""
    if isinstance(layer, nn.GroupNorm):
        normalised = functional.group_norm(inputs.float(), layer.num_groups, eps=layer.eps)
        found = {"weight": normalised * gradient, "bias": gradient}
        found = {name: each.flatten(2).float().sum(2) for name, each in found.items()}
    elif isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        is_centred = isinstance(layer, nn.LayerNorm)
        normalise: Any = functional.layer_norm if is_centred else functional.rms_norm
        normalised = normalise(inputs.float(), list(layer.normalized_shape), eps=layer.eps)
        found = {"weight": normalised * gradient, "bias": gradient.float()}
    else:
        found = _differentiate(layer, inputs, gradient)
    return [
        (name, found[name].reshape(size, -1, weight.numel()).sum(1))
        for name, weight in layer.named_parameters(recurse=False)
        if weight.requires_grad
    ]


def _differentiate(layer: nn.Module, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """Return the same of a layer that is affine in its weights, by giving each row its own."""
    names = [name for name, _ in layer.named_parameters(recurse=False)]
    twin = copy.copy(layer)
    with torch.enable_grad():
        weights = {name: torch.zeros_like(inputs, dtype=torch.float32) for name in names}
        for each in weights.values():
            each.requires_grad_()
        twin.__dict__["_parameters"] = weights
        output = twin.forward(inputs.detach().float())
    found = torch.autograd.grad(output, list(weights.values()), gradient.to(output))
    return dict(zip(names, found, strict=True))
