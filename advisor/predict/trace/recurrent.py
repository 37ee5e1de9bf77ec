"""Recurrent layers as cuDNN allocates them: one output, one reserve space for the backward pass.

cuDNN does not publish the size of its reserve space. Estimated here as what the backward pass needs
of every step, layer and direction: each gate after its activation, the cell state, the output; and
its workspace as the gates of one layer. The matrix products are run as operators, so that their
floating-point operations are counted.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Gates of one cell, and values per unit and step that its backward pass needs.
GATES: Final = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
KEPT_VALUES: Final = {"lstm": 6, "gru": 5, "rnn_tanh": 1, "rnn_relu": 1}


class _Layout(NamedTuple):
    """The shape of a recurrent network."""

    kind: str
    layers: int
    directions: int
    per_direction: (
        int  # parameters: two matrices, and two biases and a projection where it has them
    )
    batch_first: bool
    train: bool


def lower_recurrent(kind: str) -> Callable[..., tuple[Tensor, ...]]:
    """Return what takes the place of `aten::<kind>.input`."""

    def run(
        source: Tensor,
        state: Any,
        weights: list[Tensor],
        has_biases: bool,
        layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, ...]:
        del has_biases, dropout
        states = tuple(state) if isinstance(state, (list, tuple)) else (state,)
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            source, states = source.to(dtype), tuple(each.to(dtype) for each in states)
            weights = [weight.to(dtype) for weight in weights]
        directions = 2 if bidirectional else 1
        count = len(weights) // (layers * directions)
        layout = _Layout(kind, layers, directions, count, batch_first, train)
        result: tuple[Tensor, ...] = _Recurrent.apply(layout, source, *states, *weights)  # type: ignore[no-untyped-call]
        return result

    return run


class _Recurrent(torch.autograd.Function):
    """A recurrent network with cuDNN's allocations."""

    @staticmethod
    def forward(ctx: Any, layout: _Layout, source: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        states, weights = _split(layout, tensors)
        steps = (source.transpose(0, 1) if layout.batch_first else source).contiguous()
        length, batch, _ = steps.shape
        width = states[0].size(-1)  # of the output: the projection's, where there is one
        output = steps.new_empty((length, batch, width * layout.directions))
        last = tuple(torch.empty_like(state) for state in states)
        units = _units(layout, weights)
        per_unit = KEPT_VALUES[layout.kind] * layout.layers * layout.directions
        reserve = steps.new_empty(length * batch * units * per_unit if layout.train else 0)
        for matrix in _matrices(layout, weights):
            rows = steps.new_empty(()).expand(length * batch, matrix.size(1))
            gates = rows @ matrix.t()
            del gates
        ctx.layout = layout
        ctx.save_for_backward(source, output, reserve, *tensors)
        return (output.transpose(0, 1) if layout.batch_first else output, *last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        layout: _Layout = ctx.layout
        source, output, _, *tensors = ctx.saved_tensors
        states, weights = _split(layout, tuple(tensors))
        steps = (source.transpose(0, 1) if layout.batch_first else source).contiguous()
        gradient = gradients[0].transpose(0, 1) if layout.batch_first else gradients[0]
        gradient = gradient.contiguous()
        of_steps = torch.empty_like(steps)
        of_states = [torch.empty_like(state) for state in states]
        rows = output.size(0) * output.size(1)
        for matrix in _matrices(layout, weights):
            gates = steps.new_empty((rows, matrix.size(0)))
            inputs = gates @ matrix
            del gates, inputs
        flat = steps.new_zeros(sum(weight.numel() for weight in weights))
        of_weights = [
            part.view(weight.shape)
            for part, weight in zip(
                flat.split([weight.numel() for weight in weights]), weights, strict=True
            )
        ]
        for matrix in _matrices(layout, weights):
            rows_by_gates = steps.new_empty(()).expand(matrix.size(0), rows)
            product = rows_by_gates @ steps.new_empty(()).expand(rows, matrix.size(1))
            del product
        of_source = of_steps.transpose(0, 1) if layout.batch_first else of_steps
        return (None, of_source, *of_states, *of_weights)


def _split(
    layout: _Layout, tensors: tuple[Tensor, ...]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    count = 2 if layout.kind == "lstm" else 1
    return tensors[:count], tensors[count:]


def _matrices(layout: _Layout, weights: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """Yield the input and the hidden matrix of every layer and direction."""
    for first in range(0, len(weights), layout.per_direction):
        yield from weights[first : first + 2]


def _units(layout: _Layout, weights: tuple[Tensor, ...]) -> int:
    return weights[0].size(0) // GATES[layout.kind]
