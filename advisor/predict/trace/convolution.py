"""Convolutions with the workspace that cuDNN takes while it tries its algorithms.

With `torch.backends.cudnn.benchmark` on, cuDNN runs every algorithm it has once, and so takes the
largest workspace of them, for as long as the operator runs. Which one that is depends on the card.
Assumed for every kernel that is larger than one pixel and has no groups, in float32: input and
output as Winograd's algorithm transforms them, 6 × 6 values for every 4 × 4. With the flag off the
workspaces are left out.

Source: the factor is that of F(4 × 4, 3 × 3), Lavin and Gray 2016. That it stands for all kernels
is an estimate. Of the factors 0, 1, 36/16, 3 and 64/16 only 36/16 and 3 bring both the median and
the 90th percentile of the error over the 30 runs of benchmarks/data/a100_vision_memory.csv below
3 % and 13 %, so those runs no longer test it.
"""

from typing import Any, Final

import torch
from torch import Tensor

#: Values of a tile before and after the transform, without the common factor of 4.
TRANSFORMED: Final = 9
ORIGINAL: Final = 4


def convolve(source: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    """Return the convolution; takes the place of `aten::convolution`."""
    output: Tensor = _Convolution.apply(source, weight, bias, options)  # type: ignore[no-untyped-call]
    return output


def size_workspace(source: Tensor, output: Tensor, weight: Tensor, groups: int) -> int:
    """Return the bytes of the workspace of one convolution, forward or backward."""
    pixel = all(size == 1 for size in weight.shape[2:])
    if groups > 1 or pixel or source.dtype != torch.float32:
        return 0
    values = source.numel() + output.numel()
    return values * source.element_size() * TRANSFORMED // ORIGINAL


class _Convolution(torch.autograd.Function):
    """A convolution whose forward pass and both of whose gradients take a workspace."""

    @staticmethod
    def forward(
        ctx: Any, source: Tensor, weight: Tensor, bias: Tensor | None, options: tuple[Any, ...]
    ) -> Tensor:
        ctx.save_for_backward(source, weight)
        ctx.options, ctx.bias_shape = options, None if bias is None else list(bias.shape)
        with torch._C._AutoDispatchBelowAutograd():  # noqa: SLF001
            output: Tensor = torch.ops.aten.convolution(source, weight, bias, *options)
        _take_workspace(source, output, weight, options[-1])
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        """Return the gradients, one after the other; may itself be differentiated."""
        source, weight = ctx.saved_tensors
        gradients: list[Tensor | None] = [None, None, None]
        for index, wanted in enumerate(ctx.needs_input_grad[:3]):
            if wanted:
                mask = [index == other for other in range(3)]
                gradients[index] = torch.ops.aten.convolution_backward(
                    gradient, source, weight, ctx.bias_shape, *ctx.options, mask
                )[index]
                if index < 2:
                    _take_workspace(source, gradient, weight, ctx.options[-1])
        return (*gradients, None)


def _take_workspace(source: Tensor, output: Tensor, weight: Tensor, groups: int) -> None:
    """Allocate the workspace and give it back."""
    if size := size_workspace(source, output, weight, groups):
        source.new_empty(size, dtype=torch.uint8)
