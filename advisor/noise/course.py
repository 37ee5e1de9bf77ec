"""The course of the noise scale along a run: average, trend, and when more says nothing new.

Legend: φ is the noise scale; s counts the steps that an endless batch would need, and the run's
value is ∫φ ds / ∫ds: the least number of samples over the least number of steps with which the
run's progress can be bought (McCandlish et al. 2018, arXiv:1812.06162, appendix D). A run at a
finite batch B0 takes 1 + φ/B0 steps of its own for each of those, so its late steps count less.
"""

import math
from collections.abc import Sequence

from advisor.noise.data import NoiseConclusion, NoiseTrend, TrendDirection
from advisor.statistics import Estimate, exponentiate, median, two_sided_t

#: Share of the run (fraction of its steps) below which a point without an upper end may be left out
#: of the average: otherwise one noisy point at a run's very edge would leave the run without one.
NEGLIGIBLE_WEIGHT_FRACTION = 0.01
#: A noise scale known within this factor fixes the batch within 25 %, as the batch of least time
#: goes with its root.
SETTLED_FACTOR = 1.6
#: Fewest points before a trajectory may end: two thirds of it, so that the run is still followed.
LEAST_SETTLED_POINTS = 4
#: Degrees of freedom of a point's interval: those of the jackknife over 16 groups, less one.
_POINT_DEGREES = 15

#: Steps taken before, and φ there; ascending, all of one confidence.
Course = Sequence[tuple[int, Estimate]]
_Weighted = Sequence[tuple[float, Estimate]]


def average_over_progress(course: Course, *, batch_size: int) -> Estimate | None:
    """Return the average of φ over a run's progress; None where no lower end is known.

    The trapezoid rule over steps, each point weighed by 1/(1 + φ/B0) with its own φ: its lower end
    without an upper one, that of the other points without either. Each point drew its own samples,
    so their intervals combine by MOVER; how φ runs between them is not part of it. Without an upper
    end of a point that weighs, the average has none, and a lower end that adds the errors up.

    Source: McCandlish et al. 2018, eq. D.1 to D.4; Zou and Donner 2008, Statistics in Medicine
    27:1693 (MOVER).
    """
    parts = [_known_part(item) for _, item in course]
    known = [value for value in parts if value is not None]
    typical = median(known) if known else 0.0
    paces = [1.0 / (1.0 + (typical if part is None else part) / batch_size) for part in parts]
    spans = _span([step for step, _ in course])
    weighted = _drop_negligible(
        [(span * pace, item) for span, pace, (_, item) in zip(spans, paces, course, strict=True)]
    )
    confidence = course[0][1].confidence
    point, low = (_sum(weighted, end) for end in ("point", "low"))
    if all(item.low is None for _, item in weighted):
        return None
    if any(item.high is None for _, item in weighted):
        has_point = all(item.point is not None for _, item in weighted)
        return Estimate(point if has_point else None, low, None, confidence)
    below, above = (
        math.hypot(
            *(w * ((getattr(item, end) or 0.0) - (item.point or 0.0)) for w, item in weighted)
        )
        for end in ("low", "high")
    )
    return Estimate(point, point - below, point + above, confidence)


def _sum(weighted: _Weighted, field: str) -> float:
    """Return the weighted sum of one field, an unknown value counting as zero."""
    return math.fsum(weight * (getattr(item, field) or 0.0) for weight, item in weighted)


def _known_part(estimate: Estimate) -> float | None:
    value = estimate.low if estimate.high is None else estimate.point
    return None if value is None else max(value, 0.0)


def _span(steps: Sequence[int]) -> list[float]:
    """Return the trapezoid weight of each step; equal weights where none passes."""
    if steps[0] == steps[-1]:
        return [1.0] * len(steps)
    padded = [steps[0], *steps, steps[-1]]
    return [float(after - before) for before, after in zip(padded[:-2], padded[2:], strict=True)]


def _drop_negligible(weighted: _Weighted) -> _Weighted:
    """Return shares of 1, without points that have no upper end and hardly weigh."""
    total = math.fsum(weight for weight, _ in weighted)
    kept = [
        (weight, item)
        for weight, item in weighted
        if item.high is not None or weight >= NEGLIGIBLE_WEIGHT_FRACTION * total
    ]
    kept = kept or list(weighted)
    total = math.fsum(weight for weight, _ in kept)
    return [(weight / total, item) for weight, item in kept]


def fit_trend(course: Course) -> NoiseTrend | None:
    """Return how φ went; None with fewer than two points whose ends are both known and positive.

    A line through log φ by weighted least squares, each point with the standard error that its
    interval stands for; the slope's is multiplied by the Birge ratio where the points scatter more.

    Source: Birge 1932, Phys. Rev. 40:207, for the ratio.
    """
    known = [
        (step, math.log(item.point), (math.log(item.high) - math.log(item.low)) / 2.0, item)
        for step, item in course
        if item.point is not None
        and item.high is not None
        and item.low is not None
        and 0.0 < item.low < item.high
    ]
    if len(known) < 2 or known[0][0] == known[-1][0]:
        return None
    confidence = known[0][3].confidence
    quantile = two_sided_t(confidence, _POINT_DEGREES)
    first, last = known[0][0], known[-1][0]
    slope, error = _fit_line(
        [
            ((step - first) / (last - first), log, (quantile / half) ** 2)
            for step, log, half, _ in known
        ]
    )
    half_width = quantile * error
    factor = exponentiate(Estimate(slope, slope - half_width, slope + half_width, confidence))
    return NoiseTrend(
        direction=_name_direction(factor), factor=factor, from_step=first, to_step=last
    )


def _fit_line(rows: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Return the slope and its standard error of rows (x, y, weight)."""
    total = math.fsum(w for _, _, w in rows)
    centre = math.fsum(w * x for x, _, w in rows) / total
    level = math.fsum(w * y for _, y, w in rows) / total
    spread = math.fsum(w * (x - centre) ** 2 for x, _, w in rows)
    slope = math.fsum(w * (x - centre) * (y - level) for x, y, w in rows) / spread
    misfit = math.fsum(w * (y - level - slope * (x - centre)) ** 2 for x, y, w in rows)
    birge = math.sqrt(misfit / (len(rows) - 2)) if len(rows) > 2 else 1.0
    return slope, max(1.0, birge) / math.sqrt(spread)


def _name_direction(factor: Estimate) -> TrendDirection:
    low, high = factor.low or 0.0, math.inf if factor.high is None else factor.high
    if low > 1.0:
        return "rose"
    if high < 1.0:
        return "fell"
    return "flat" if low >= 1.0 / SETTLED_FACTOR and high <= SETTLED_FACTOR else "unclear"


def explain_enough(noise: NoiseConclusion, settling_noise_scale: float | None = None) -> str | None:
    """Return why further points would not change the advice; None where they may.

    Either the average is known well enough, or every point is surely above `settling_noise_scale`,
    from which on the advised batch stays the same. Never while the noise scale is seen to rise or
    fall, save for a rise in the second case (simulated in benchmarks/noise_stopping.py).
    """
    trend, average, course = noise.trend, noise.decisive, noise.course
    if len(course) < LEAST_SETTLED_POINTS or average is None or trend is None:
        return None
    if settling_noise_scale is not None and trend.direction != "fell":
        lows = [item.low for _, item in course]
        if all(low is not None and low >= settling_noise_scale for low in lows):
            return (
                f"it is surely above {settling_noise_scale:.3g}, from where on the advised batch "
                "is the same"
            )
    change = trend.factor.point
    is_steady = (
        trend.direction in {"flat", "unclear"}
        and change is not None
        and 1.0 / SETTLED_FACTOR <= change <= SETTLED_FACTOR
    )
    if is_steady and is_known_within(average, SETTLED_FACTOR):
        return f"it is steady and its average known within a factor of {SETTLED_FACTOR:g}"
    return None


def is_known_within(estimate: Estimate, factor: float) -> bool:
    """Return whether both ends are within the factor of the point."""
    point, low, high = estimate.point, estimate.low, estimate.high
    if point is None or low is None or high is None or low <= 0.0:
        return False
    return high <= factor * point and point <= factor * low
