"""The rate above which full-batch training leaves a point, by the sharpness there: a hint.

Each limit is that of a linear recurrence on a quadratic (docs/method.md, section 11). Training is
none: the sharpness falls where steps overshoot, and a stochastic gradient has noise of its own. So
it neither allows nor refuses a rate.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from advisor.advice.plan import ADVICE
from advisor.engine.record import Conclusions, Topic
from advisor.memory.data import MemoryConclusion
from advisor.noise.plan import explain_absence
from advisor.sharpness.data import SHARPNESS, Sharpness, SharpnessConclusion, SharpnessPoint
from advisor.training.data import OptimizerFacts, WorkloadFacts

#: Memory of a gradient differentiated again over training's, for a sample: 2.0 to 3.4 were seen.
_ACTIVATIONS = 4.0
#: Vectors of the parameters' size: Lanczos' three, metric, product, gradient, and its graph's.
_PARAMETER_COPIES = 8
#: Samples beyond which a product's fixed cost is small and a slow model gets none in its time, and
#: below which they say nothing.
_MOST, _LEAST = 64, 8

_NOT_REACHED = (
    "no point of the trajectory has it: no micro-batch for it was expected to fit, or no time was "
    "left"
)


class Limit(NamedTuple):
    """The largest stable rate is `numerator` over (eigenvalue + `offset`)."""

    formula: str
    numerator: float
    offset: float = 0.0
    #: Whether the eigenvalue is that in the optimizer's metric.
    is_preconditioned: bool = False

    def find_rate(self, eigenvalue: float) -> float | None:
        """Return the largest stable rate; None where nothing curves upwards to be overshot."""
        steepness = eigenvalue + self.offset
        return self.numerator / steepness if steepness > 0.0 else None


def find_limit(optimizer: OptimizerFacts) -> Limit | None:
    """Return the optimizer's limit; None where none is derived for it.

    Source: Cohen et al. 2021, arXiv:2103.00065, for gradient descent, heavy ball and Nesterov;
    Cohen et al. 2022, arXiv:2207.14484, for Adam.
    """
    momentum, beta1 = optimizer.momentum or 0.0, optimizer.beta1 or 0.0
    if optimizer.name in {"Adam", "AdamW", "FusedAdam"} and beta1 < 1.0:
        numerator = 2.0 * (1.0 + beta1) / (1.0 - beta1)
        return Limit("2(1+β1)/((1−β1)λ)", numerator, is_preconditioned=True)
    numerator, formula = 2.0 * (1.0 + momentum), "2(1+m)/λ" if momentum else "2/λ"
    if optimizer.name in {"RMSprop", "Adagrad"}:
        return Limit(formula, numerator, is_preconditioned=True)
    if optimizer.name != "SGD":
        return None
    damping = 1.0
    if momentum and optimizer.is_nesterov:
        formula, damping = "2(1+m)/((1+2m)λ)", 1.0 + 2.0 * momentum
    elif momentum:
        damping = 1.0 - (optimizer.dampening or 0.0)
    decay = optimizer.weight_decay or 0.0
    return Limit(formula, numerator / damping, decay) if damping > 0.0 else None


def conclude_sharpness(conclusions: Conclusions) -> SharpnessConclusion | None:
    """Return the sharpness along training and the hint; None where it was not asked for.

    The advised rate, or else what the rule proposes, is compared; where the loss is a sum, its
    Hessian grows with the advised batch.
    """
    record, advice = conclusions.record, conclusions.of(ADVICE)
    facts, seen = record.workload, record.all(SHARPNESS)
    if facts is None or not (seen or record.command.limits.sharpness):
        return None
    reason = "; ".join(dict.fromkeys(each.reason for each in seen if each.reason))
    if all(each.largest_eigenvalue is None for each in seen):
        reason = reason if seen else explain_absence(facts) or _NOT_REACHED
        return SharpnessConclusion(status="not_measured", reason=reason)
    limit = None if facts.optimizer is None else find_limit(facts.optimizer)
    rates: list[tuple[float | None, int | None]] = [(None, None), (None, None)]
    if advice is not None:
        rate, size = advice.learning_rate, advice.global_batch_size
        rates = [
            (rate.base_value, facts.base_batch_size),
            (rate.value or rate.proposed, size),
        ]
    is_sum = facts.loss_reduction == "sum"
    points = tuple(_conclude_point(each, limit, rates, is_sum=is_sum) for each in seen)
    return SharpnessConclusion(
        status="measured",
        reason=reason,
        formula=None if limit is None else limit.formula,
        samples=max(each.samples for each in seen),
        points=points,
        hint=_hint(points),
    )


def _conclude_point(
    seen: Sharpness,
    limit: Limit | None,
    rates: Sequence[tuple[float | None, int | None]],
    *,
    is_sum: bool,
) -> SharpnessPoint:
    """Return the point with rates over the largest stable one, each with its batch."""
    is_own = limit is not None and limit.is_preconditioned
    eigenvalue = seen.preconditioned_eigenvalue if is_own else seen.largest_eigenvalue
    converged = seen.preconditioned_converged if is_own else seen.converged
    grows = is_sum and not is_own  # the metric shrinks as the sum grows: nothing is left to scale

    def find_stable(batch_size: int | None) -> float | None:
        size = batch_size if grows else 1
        if limit is None or eigenvalue is None or size is None:
            return None
        return limit.find_rate(eigenvalue * size)

    base, advised = (
        None if rate is None or (stable := find_stable(size)) is None else rate / stable
        for rate, size in rates
    )
    return SharpnessPoint(
        at_step=seen.at_step,
        sharpness=seen.largest_eigenvalue,
        preconditioned_sharpness=seen.preconditioned_eigenvalue,
        is_lower_bound=limit is not None and eigenvalue is not None and not converged,
        largest_stable_rate=None if grows else find_stable(1),
        base_rate_ratio=base,
        advised_rate_ratio=advised,
    )


def _hint(points: Sequence[SharpnessPoint]) -> str | None:
    base = [each.base_rate_ratio for each in points if each.base_rate_ratio is not None]
    advised = [each.advised_rate_ratio for each in points if each.advised_rate_ratio is not None]
    parts = []
    if base:
        parts.append(f"the base rate is {_span(base)} times the largest stable one")
    if advised and advised != base:
        parts.append(f"the advised one {'' if base else 'is '}{_span(advised)} times")
    if not parts:
        return None
    meaning = (
        "runs above 1 may settle where the sharpness is lower, or diverge"
        if max((*base, *advised)) > 1.0
        else "this alone forbids neither, and does not show that they train"
    )
    return f"{', '.join(parts)}; {meaning}: a hint, the trial decides"


def _span(ratios: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys(f"{end:.2g}" for end in (min(ratios), max(ratios))))


def choose_micro_batch_size(
    facts: WorkloadFacts,
    memory: MemoryConclusion | None,
    training_size: int,
    *,
    batch_multiple: int = 1,
) -> int | None:
    """Return the samples whose gradient is differentiated again at once; None if none fits.

    Under BatchNorm it is the micro-batch of training or nothing: the Hessian is that of batches.
    """
    room = find_room(facts, memory)
    most = min(each for each in (_MOST, room, facts.dataset_size) if each is not None)
    if facts.has_batch_statistics:
        return training_size if room is None or training_size <= room else None
    least = math.ceil(max(_LEAST, facts.min_micro_batch_size) / batch_multiple) * batch_multiple
    return most // batch_multiple * batch_multiple if most >= least else None


def find_room(facts: WorkloadFacts, memory: MemoryConclusion | None) -> int | None:
    """Return the samples of a product that should fit; None where the memory is not known."""
    if memory is None or memory.max_micro_batch_size is None:
        return None
    if (
        facts.parameter_bytes is None
        or memory.capacity_bytes is None
        or memory.fixed_bytes is None
        or not memory.bytes_per_sample
    ):
        return int(memory.max_micro_batch_size / _ACTIVATIONS)
    copies_bytes = _PARAMETER_COPIES * facts.parameter_bytes
    free_bytes = memory.capacity_bytes - memory.fixed_bytes - copies_bytes
    return max(0, int(free_bytes / (_ACTIVATIONS * memory.bytes_per_sample)))


SHARPNESS_TOPIC = Topic("sharpness", SharpnessConclusion, conclude_sharpness)
