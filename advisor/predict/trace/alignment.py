"""The loss of connectionist temporal classification, with the allocations of CUDA's kernels.

Probabilities of every prefix at every step are kept for the backward pass, which makes those of
every suffix beside them. Their size follows the longest target. Source: LossCTC.cu, torch 2.14;
cuDNN's loss, for targets in one row on the host, is not traced.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def lose_alignment(
    log_probs: Tensor,
    targets: Tensor,
    _input_lengths: Any,
    target_lengths: Any,
    _blank: int = 0,
    reduction: int = 1,
    _zero_infinity: bool = False,
) -> Tensor:
    """Return the loss as `aten::ctc_loss` does, for shapes alone."""
    batched = log_probs if log_probs.dim() == 3 else log_probs.unsqueeze(1)
    # The mean length stands for the longest where targets are in one row and lengths unknown.
    longest = math.ceil(targets.numel() / batched.size(1))
    if targets.dim() == 2:
        longest = targets.size(1)
    elif isinstance(target_lengths, (list, tuple)):
        longest = int(max(target_lengths))
    losses: Tensor = _Alignment.apply(batched, longest)  # type: ignore[no-untyped-call]
    if reduction == 0:
        return losses if log_probs.dim() == 3 else losses.squeeze(0)
    return (losses / torch.ones_like(losses)).mean() if reduction == 1 else losses.sum()


class _Alignment(torch.autograd.Function):
    """The losses of a batch."""

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, longest: int) -> Tensor:
        steps, batch, _ = log_probs.shape
        prefixes = log_probs.new_empty((batch, steps, 2 * longest + 1))
        ctx.save_for_backward(log_probs, prefixes)
        return log_probs.new_empty(batch)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _gradient: Tensor) -> tuple[Any, ...]:
        log_probs, prefixes = ctx.saved_tensors
        suffixes = torch.empty_like(prefixes)
        gradient = torch.empty_like(log_probs)
        del suffixes
        return gradient, None
