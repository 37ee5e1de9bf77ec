"""Recurrent layers as cuDNN allocates them, and the loss of alignments as CUDA does.

cuDNN does not publish the size of its reserve space. Estimated as what the backward pass needs of
every step, layer and direction: each gate after its activation, the cell state, the output; and its
workspace as the gates of one layer in both directions. The matrix products are run as operators, so
that their floating-point operations are counted.

The loss of connectionist temporal classification keeps the probabilities of every prefix at every
step for its backward pass, which makes those of every suffix beside them; their size follows the
longest target. Source: LossCTC.cu, torch 2.14; cuDNN's loss, for targets in one row on the host, is
not traced.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Gates of one cell, and values per unit and step that its backward pass needs.
GATES: Final = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
KEPT_VALUES: Final = {"lstm": 6, "gru": 5, "rnn_tanh": 1, "rnn_relu": 1}
#: Of a recurrent layer under autocast, whichever type that asks for.
#: Source: aten/src/ATen/cudnn/AutocastRNN.cpp, torch 2.14.
AUTOCAST_DTYPE: Final = torch.float16


class _Layout(NamedTuple):
    """The shape of a recurrent network."""

    kind: str
    layers: int
    directions: int
    batch_first: bool
    train: bool

    def split(self, tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the states and the weights."""
        count = 2 if self.kind == "lstm" else 1
        return tensors[:count], tensors[count:]

    def matrices(self, weights: Sequence[Tensor]) -> list[tuple[int, int]]:
        """Return inputs and gates of both matrices of every layer, of both directions at once.

        Two biases and a projection may follow each pair.
        """
        step = len(weights) // self.layers
        pairs = (weights[first:][:2] for first in range(0, len(weights), step))
        return [(each.size(1), each.size(0) * self.directions) for pair in pairs for each in pair]

    def swap(self, tensor: Tensor) -> Tensor:
        """Return the tensor with steps in front, or back as it was."""
        return tensor.transpose(0, 1) if self.batch_first else tensor


def lower_recurrent(kind: str) -> Callable[..., tuple[Tensor, ...]]:
    """Return what takes the place of `aten::<kind>.input`."""

    def run(
        source: Tensor,
        state: Any,
        weights: list[Tensor],
        _has_biases: bool,
        layers: int,
        _dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, ...]:
        tensors = [source, *(state if isinstance(state, (list, tuple)) else (state,))]
        if torch.is_autocast_enabled("cpu"):
            tensors = [each.to(AUTOCAST_DTYPE) for each in tensors]
            if weights[0].dtype != AUTOCAST_DTYPE:
                weights = [*_Flatten.apply(*weights)]  # type: ignore[no-untyped-call]
        tensors += weights
        layout = _Layout(kind, layers, 1 + bidirectional, batch_first, train)
        result: tuple[Tensor, ...] = _Recurrent.apply(layout, *tensors)  # type: ignore[no-untyped-call]
        return result

    return run


class _Flatten(torch.autograd.Function):
    """A copy of all weights of a layer in one piece of memory."""

    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.dtype = weights[0].dtype
        copies = _cut(weights[0].new_empty(_count(weights), dtype=AUTOCAST_DTYPE), weights)
        return tuple(copy.copy_(weight) for copy, weight in zip(copies, weights, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(each.to(ctx.dtype) for each in gradients)


class _Recurrent(torch.autograd.Function):
    """A recurrent network with cuDNN's allocations."""

    @staticmethod
    def forward(ctx: Any, layout: _Layout, source: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        states, weights = layout.split(tensors)
        steps = layout.swap(source).contiguous()
        length, batch, _ = steps.shape
        width = states[0].size(-1)  # of the output: the projection's, where there is one
        output = steps.new_empty((length, batch, width * layout.directions))
        last = tuple(torch.empty_like(state) for state in states)
        units = weights[0].size(0) // GATES[layout.kind]
        per_unit = KEPT_VALUES[layout.kind] * layout.layers * layout.directions
        matrices = layout.matrices(weights)
        workspace = steps.new_empty(length * batch * matrices[0][1])  # comes before the reserve
        reserve = steps.new_empty(length * batch * units * per_unit if layout.train else 0)
        _work(workspace, [(length * batch, inputs, gates) for inputs, gates in matrices])
        del workspace
        ctx.layout = layout
        ctx.save_for_backward(source, output, reserve, *tensors)
        return (layout.swap(output), *last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        layout: _Layout = ctx.layout
        source, output, _, *tensors = ctx.saved_tensors
        states, weights = layout.split(tuple(tensors))
        steps = layout.swap(source).contiguous()
        gradient = layout.swap(gradients[0]).contiguous()
        of_steps = torch.empty_like(steps)
        of_states = [torch.empty_like(state) for state in states]
        rows = output.size(0) * output.size(1)
        matrices = layout.matrices(weights)
        workspace = steps.new_empty(rows * matrices[0][1])
        _work(workspace, [(rows, gates, inputs) for inputs, gates in matrices])
        del steps, gradient, workspace
        steps = layout.swap(source).contiguous()  # once more, for the weights
        of_weights = _cut(steps.new_zeros(_count(weights)), weights)
        workspace = steps.new_empty(rows * matrices[0][1])
        _work(workspace, [(gates, rows, inputs) for inputs, gates in matrices])
        return (None, layout.swap(of_steps), *of_states, *of_weights)


def _count(weights: Sequence[Tensor]) -> int:
    return sum(weight.numel() for weight in weights)


def _cut(whole: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Return views of one piece of memory that have the shapes of the weights."""
    parts = torch.split(whole, [weight.numel() for weight in weights])
    return [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]


def _work(workspace: Tensor, products: Iterable[tuple[int, int, int]]) -> None:
    """Multiply within a workspace, of which any part that is read or written will do."""
    one = workspace[:1]
    for rows, inner, columns in products:
        factors = one.expand(rows, inner), one.expand(inner, columns)
        torch.mm(*factors, out=one.as_strided((rows, columns), (0, 0)))


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
