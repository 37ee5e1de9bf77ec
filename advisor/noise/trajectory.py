"""The average of the noise scale over a training run that was measured at points along it.

Legend: φ is the noise scale, s counts the steps that an endless batch would need; the run's value
is ∫φ ds / ∫ds. McCandlish et al. 2018, arXiv:1812.06162, appendix D, show that it is the least
number of samples over the least number of steps with which the run's progress can be bought.

A run at a finite batch B0 takes 1 + φ/B0 steps of its own for each of those: its late steps, where
φ is large, make less progress each and count less.
"""

import math
from collections.abc import Callable, Sequence

from advisor.statistics import Estimate, median

#: Share of the run (fraction of its steps) below which a point without an upper end may be left out
#: of the average: otherwise one noisy point at a run's very edge would leave the run without one.
NEGLIGIBLE_WEIGHT_FRACTION = 0.01

Weighted = Sequence[tuple[float, Estimate]]


def average_over_progress(
    steps: Sequence[int], estimates: Sequence[Estimate], *, batch_size: int
) -> Estimate | None:
    """Return the average of φ over a run's progress; None where no lower end is known.

    The average is the trapezoid rule's over steps, each point weighed by 1/(1 + φ/B0) with its own
    φ: its lower end without an upper one, that of the other points without either.

    The estimates are assumed independent given the trajectory (each point draws its own samples),
    so their intervals combine by MOVER: the distance from the average down to its lower end is the
    root of the sum of the points' squared weighted distances, and upwards likewise. How φ runs
    between the points is not part of the interval.

    A point without an upper end is left out where its weight is negligible. Otherwise the average
    has no upper end either, and its lower end is the weighted sum of the points' lower ends, zero
    where a point has none (φ cannot be below): conservative, as it adds errors up as if they were
    one. The average has a point only where each estimate has one.

    Args:
        steps: Optimizer steps before each estimate, ascending.
        estimates: One for each step, all of one confidence.
        batch_size: B0, samples of each step of the run.

    Source: McCandlish et al. 2018, eq. D.1 to D.4; Zou and Donner 2008, Statistics in Medicine
    27:1693 (MOVER); the rest is derived.
    """
    known = [value for item in estimates if (value := _known_part(item)) is not None]
    typical = median(known) if known else 0.0
    paces = [
        1.0 / (1.0 + (typical if (value := _known_part(item)) is None else value) / batch_size)
        for item in estimates
    ]
    spans = [span * pace for span, pace in zip(_weigh(steps), paces, strict=True)]
    total = math.fsum(spans)
    shares = [span / total for span in spans]
    weighted = _drop_negligible(list(zip(shares, estimates, strict=True)))
    if all(item.low is None for _, item in weighted):
        return None
    confidence = weighted[0][1].confidence
    point = _weighted_sum(weighted, lambda item: item.point)
    if any(item.high is None for _, item in weighted):
        low = _weighted_sum(weighted, lambda item: item.low)
        has_point = all(item.point is not None for _, item in weighted)
        return Estimate(point if has_point else None, low, None, confidence)
    below = _weighted_distance(weighted, lambda item: item.low)
    above = _weighted_distance(weighted, lambda item: item.high)
    return Estimate(point, point - below, point + above, confidence)


def _known_part(estimate: Estimate) -> float | None:
    value = estimate.low if estimate.high is None else estimate.point
    return None if value is None else max(value, 0.0)


def _weigh(steps: Sequence[int]) -> list[float]:
    """Return the trapezoid weight of each step as a fraction; equal weights where none passes."""
    span = steps[-1] - steps[0]
    if span == 0:
        return [1.0 / len(steps)] * len(steps)
    padded = [steps[0], *steps, steps[-1]]
    return [
        (after - before) / (2.0 * span)
        for before, after in zip(padded[:-2], padded[2:], strict=True)
    ]


def _drop_negligible(weighted: Weighted) -> Weighted:
    """Leave out points without an upper end that hardly weigh, and share their weight out."""
    kept = [
        (weight, item)
        for weight, item in weighted
        if item.high is not None or weight >= NEGLIGIBLE_WEIGHT_FRACTION
    ]
    total = sum(weight for weight, _ in kept)
    return [(weight / total, item) for weight, item in kept] if total > 0.0 else weighted


def _weighted_sum(weighted: Weighted, value: Callable[[Estimate], float | None]) -> float:
    """Return the weighted sum of one field, an unknown value counting as zero."""
    return math.fsum(weight * (value(item) or 0.0) for weight, item in weighted)


def _weighted_distance(weighted: Weighted, end: Callable[[Estimate], float | None]) -> float:
    """Return the root of the sum of squared weighted distances from points to one of their ends."""
    distances = ((end(item) or 0.0) - (item.point or 0.0) for _, item in weighted)
    weights = (weight for weight, _ in weighted)
    return math.hypot(*(w * d for w, d in zip(weights, distances, strict=True)))
