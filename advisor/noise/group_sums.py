"""The sums of gradients of groups of micro-batches, and the moments that they hold.

A micro-batch costs its forward and backward and one addition.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from advisor.noise.data import GradientMoments, NoiseBatches
from advisor.noise.preconditioner import find_roots, trained_parameters
from advisor.training.training import Training

#: Columns of the groups' matrix that enter a float64 product at a time, so that they stay in the
#: cache.
_CHUNK_ELEMENTS = 1 << 13


class GroupSums:
    """The sums of gradients of J groups of micro-batches, at frozen parameters.

    The sums are the rows of one J×P matrix on the host, allocated beforehand. On the CPU gradients
    are added to it at once: kept in `.grad` or one by one, they would split the heap that the
    activations use, which was seen to slow a step down by up to half. On a GPU one sum is on the
    device, and moves to its row when the next group begins.

    Args:
        training: The model, whose `.grad` is used and left cleared.
        groups: J.
        micro_batch_size: Samples of each micro-batch.

    Attributes:
        groups: J.
    """

    def __init__(self, training: Training, groups: int, micro_batch_size: int) -> None:
        self.groups = groups
        self._training = training
        self._all_parameters = list(training.model.parameters())
        self._parameters = trained_parameters(training)
        self._micro_batch_size = micro_batch_size
        sizes = [parameter.numel() for parameter in self._parameters]
        ends = list(itertools.accumulate(sizes))
        self._parts = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        is_double = any(parameter.dtype == torch.float64 for parameter in self._parameters)
        dtype = torch.float64 if is_double else torch.float32
        self._store = torch.zeros(groups, sum(sizes), dtype=dtype)
        self._row = self._store[0]
        if training.device.type != "cpu":
            self._row = torch.zeros_like(self._row, device=training.device)
        self._running = self._split(self._row)
        self._counts = [0] * groups
        self._weights = [0.0] * groups
        self._current = 0
        self._losses: list[float] = []

    def add(self, group: int, batch: object, weight: float | None = None) -> None:
        """Add the gradient of the batch's loss to the group's sum, times its weight.

        Args:
            group: From 0.
            batch: A micro-batch.
            weight: Tokens that its loss averages over; None takes its samples. Without any there is
                no gradient to take.
        """
        self._switch_to(group)
        self._counts[group] += 1
        if weight is not None:
            self._weights[group] += weight
            if weight == 0.0:
                return
        self._losses.append(float(self._training.backward(batch).detach()))
        pairs = [
            (total, parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad)
            for total, parameter in zip(self._running, self._parameters, strict=True)
            if parameter.grad is not None
        ]
        totals, gradients = [total for total, _ in pairs], [gradient for _, gradient in pairs]
        torch._foreach_add_(totals, gradients, alpha=weight or self._micro_batch_size)
        for parameter in self._all_parameters:  # also those that the optimizer does not move
            parameter.grad = None

    def finish(self, step: int, *, per_sample_sum: bool) -> NoiseBatches | None:
        """Return the moments of what was added; None where too little of it is finite.

        Args:
            step: Optimizer steps taken before.
            per_sample_sum: Whether the loss sums over its batch; its gradient is then divided by
                the batch to be a mean.
        """
        if self._training.device.type != "cpu":
            self._store[self._current].copy_(self._row)
        divisor = self._micro_batch_size if per_sample_sum else 1
        by_tokens = any(self._weights)
        filled = [
            group
            for group, count in enumerate(self._counts)
            if count and (self._weights[group] or not by_tokens)
        ]
        # A norm in float64 is finite where all it sums is, and costs one pass.
        norms = torch.linalg.vector_norm(self._store, dim=1, dtype=torch.float64)
        finite = [group for group in filled if norms[group].isfinite()]
        losses = [loss for loss in self._losses if math.isfinite(loss)]
        if len(finite) < 2 or not losses:
            return None
        factor = (1.0 / self._training.gradient_scale() / divisor) ** 2
        sizes = [self._counts[group] * self._micro_batch_size for group in finite]
        tokens = [self._weights[group] for group in finite] if by_tokens else []
        sums = self._store if len(finite) == self.groups else self._store[finite]
        roots = self._find_roots()
        return NoiseBatches(
            at_step=step,
            micro_batch_size=self._micro_batch_size,
            loss=math.fsum(losses) / len(losses) / divisor,
            micro_batch_sizes=tuple(sizes),
            groups=tuple(range(len(finite))),
            plain=_compute_moments(sums, tokens or sizes, factor, None),
            preconditioned=(
                None if roots is None else _compute_moments(sums, tokens or sizes, factor, roots)
            ),
            weights=tuple(tokens),
            dropped=len(filled) - len(finite),
        )

    def _switch_to(self, group: int) -> None:
        """Make the group's sum the running one."""
        if group == self._current:
            return
        if self._training.device.type == "cpu":
            self._running = self._split(self._store[group])
        else:
            self._store[self._current].copy_(self._row)
            self._row.copy_(self._store[group])
        self._current = group

    def _split(self, row: Tensor) -> list[Tensor]:
        """Return views of the row in the shapes of the parameters."""
        return [
            row[part].view_as(parameter)
            for part, parameter in zip(self._parts, self._parameters, strict=True)
        ]

    def _find_roots(self) -> Tensor | None:
        """Return sqrt(P) with P = 1/(sqrt(v̂)+ε) for every element, None before there is a v̂.

        It is zero where the optimizer holds none: what it has not moved has no part in its metric.
        """
        found = find_roots(self._parameters, self._training.optimizer)
        return None if found is None else torch.cat([root.flatten() for root in found])


def _compute_moments(
    sums: Tensor, weights: Sequence[float], factor: float, roots: Tensor | None
) -> GradientMoments:
    """Return the moments of the rows of `sums`, in the metric root², in float64.

    Args:
        sums: s_j, the sum of each group's gradients times their weights.
        weights: Of each group.
        factor: By which squared norms are to be multiplied.
        roots: Of the metric; None for the Euclidean one.
    """
    norms = torch.zeros(len(sums), dtype=torch.float64)
    dots, total_sqnorm = torch.zeros_like(norms), 0.0
    for start in range(0, sums.shape[1], _CHUNK_ELEMENTS):
        part = slice(start, start + _CHUNK_ELEMENTS)
        chunk = sums[:, part].double()
        if roots is not None:
            chunk = chunk * roots[part]
        total = chunk.sum(dim=0)
        norms += chunk.square().sum(dim=1)
        dots += chunk @ total
        total_sqnorm += float(total @ total)
    square_weights = torch.tensor(weights, dtype=torch.float64) ** 2
    return GradientMoments(
        sqnorms=tuple((factor * norms / square_weights).tolist()),
        group_sqnorms=tuple((factor * norms).tolist()),
        group_dots=tuple((factor * dots).tolist()),
        total_sqnorm=factor * total_sqnorm,
    )
