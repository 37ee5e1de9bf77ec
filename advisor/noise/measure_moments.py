"""Sums of gradients over groups of micro-batches, seen step by step."""

import math
import time
from typing import Any

from torch import Tensor

from advisor.noise.data import NoiseBatches
from advisor.noise.measure_metric import Trained, trained_parameters
from advisor.noise.measure_rows import Place, make_rows
from advisor.training.data import TokenCount
from advisor.training.loss_reduction import count_tokens
from advisor.training.observer import Observer, Step


class GroupSums(Observer):
    """The sums of gradients of J groups of micro-batches, seen at frozen parameters.

    Each group gets so many `rounds` of micro-batches; once the deadline of `perf_counter` is over,
    one each up to `least_groups`. A micro-batch weighs by its tokens, without a `token_count` by
    its samples. The `.grad` of the training are left cleared.
    """

    def __init__(
        self,
        training: Trained,
        groups: int,
        micro_batch_size: int,
        *,
        rounds: int = 1,
        token_count: TokenCount | None = None,
        least_groups: int = 0,
        deadline_s: float = math.inf,
        place: Place = "host",
    ) -> None:
        self._all_parameters = training.list_parameters()
        self._parameters = trained_parameters(training)
        self._micro_batch_size = micro_batch_size
        self._rounds, self._token_count = rounds, token_count
        self._least_groups, self._deadline_s = least_groups, deadline_s
        self._rows = make_rows(training, groups, place)
        self._is_sketched = place == "sketch"
        self._counts = [0] * groups
        self._weights = [0.0] * groups
        self._losses: list[Tensor] = []  # on the device: reading one would wait for it
        self._begin(0)

    def before_step(self, step: Step) -> None:
        """Add the gradient to the group's sum, times its weight; without tokens it has none."""
        rule, group = self._token_count, self._group
        weight = None if rule is None else float(count_tokens(step.batch, rule))
        self._counts[group] += 1
        self._weights[group] += weight or 0.0
        if weight != 0.0:
            self._losses += [loss.clone() for loss in step.losses]
            alpha = (weight or self._micro_batch_size) / step.gradient_scale
            self._rows.add([parameter.grad for parameter in self._parameters], alpha)
        for parameter in self._all_parameters:  # also those that the optimizer does not move
            parameter.grad = None

    def after_step(self, step: Step) -> bool:  # noqa: ARG002
        """Go on to the next group where this one is full; return False after the last."""
        is_late = time.perf_counter() > self._deadline_s
        if self._counts[self._group] < self._rounds and not is_late:
            return True
        done = self._group + 1
        if done == len(self._counts) or (is_late and done >= self._least_groups):
            return False
        self._begin(done)
        return True

    @property
    def group(self) -> int:
        """The one that gradients add up in."""
        return self._group

    def go_to(self, group: int) -> None:
        """Have the gradients that come add up in a group."""
        if group != self._group:
            self._begin(group)

    def finish(self, at_step: int, *, per_sample_sum: bool, **labels: Any) -> NoiseBatches | None:
        """Return the moments of what was added; None where too little of it is finite.

        The gradient of a loss that sums over its batch is made a mean; `labels` are other fields.
        """
        divisor = self._micro_batch_size if per_sample_sum else 1
        by_tokens = any(self._weights)
        pairs = enumerate(zip(self._counts, self._weights, strict=True))
        filled = [group for group, pair in pairs if all(pair if by_tokens else pair[:1])]
        finite = self._rows.find_finite(filled)
        losses = [loss for loss in map(float, self._losses) if math.isfinite(loss)]
        if len(finite) < 2 or not losses:
            return None
        plain, own = self._rows.compute_moments(finite, 1.0 / divisor**2)
        return NoiseBatches(
            **labels,
            at_step=at_step,
            micro_batch_size=self._micro_batch_size,
            loss=math.fsum(losses) / len(losses) / divisor,
            micro_batch_sizes=tuple(self._counts[g] * self._micro_batch_size for g in finite),
            plain=plain,
            preconditioned=own,
            is_sketched=self._is_sketched,
            weights=tuple(self._weights[group] for group in finite if by_tokens),
            dropped=len(filled) - len(finite),
        )

    def _begin(self, group: int) -> None:
        self._group = group
        self._rows.begin(group)
