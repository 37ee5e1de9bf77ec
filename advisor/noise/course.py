"""The course of the noise scale along a run: its average, its trend, and where that leads.

Legend: φ is the noise scale, p = φ/(φ + B0) the share of noise in a step of B0 samples.
"""

import math
from collections.abc import Sequence

import numpy as np

from advisor.noise.data import NoiseConclusion, NoisePoint, NoiseTrend, TrendDirection
from advisor.noise.share import average_shares, to_noise_scale, to_share
from advisor.statistics import MOST_LOG, Estimate, exponentiate, two_sided_t

#: A change of the noise scale within this factor moves the batch by 25 % at most, as the batch of
#: least time goes with its root.
_FLAT_FACTOR = 1.6
#: Last points by which φ is followed beyond the run, and the fewest: early ones are another phase.
_LATE_POINTS, _LEAST_LATE_POINTS = 4, 3
#: Pieces of equal ratio into which the steps beyond the run are cut.
_PIECES = 64
#: Degrees of freedom of a point's interval: those of the jackknife over 16 groups, less one.
_POINT_DEGREES = 15

#: Steps taken before, and φ there; ascending, all of one confidence.
Course = Sequence[tuple[int, Estimate]]


def average_over_progress(
    points: Sequence[NoisePoint], *, batch_size: float, adapted: bool
) -> Estimate | None:
    """Return the average of φ over a run's progress; None where no lower end is known.

    Each point counts by the steps it stands for, or else by the trapezoid rule.
    """
    known = [p for p in points if not adapted or p.preconditioned_noise_scale is not None]
    shares = [p.preconditioned_noise_share if adapted else p.noise_share for p in known]
    if all(share is None for share in shares):
        return None
    weights = [point.span_steps or 0 for point in known]
    if not all(weights):
        steps = [point.at_step for point in known]
        padded = [steps[0], *steps, steps[-1]]
        weights = [after - before for before, after in zip(padded[:-2], padded[2:], strict=True)]
    if not any(weights):
        weights = [1] * len(known)
    average = to_noise_scale(average_shares(shares, weights), batch_size)
    return None if average.low is None else average


def fit_trend(course: Course) -> NoiseTrend | None:
    """Return how φ went; None with fewer than two points whose ends are both known and positive.

    A line through log φ over log steps by weighted least squares.

    Source: Birge 1932, Phys. Rev. 40:207, for the slope's error where points scatter more than
    their intervals say.
    """
    known = [
        (step, math.log(item.point), (math.log(item.high) - math.log(item.low)) / 2.0, item)
        for step, item in course
        if item.point and item.high and item.low and 0.0 < item.low < item.high
    ]
    if len(known) < 2 or known[0][0] == known[-1][0]:
        return None
    first, last, confidence = known[0][0], known[-1][0], known[0][3].confidence
    quantile = two_sided_t(confidence, _POINT_DEGREES)
    run = math.log1p(last) - math.log1p(first)
    x = np.array([(math.log1p(step) - math.log1p(first)) / run for step, *_ in known])
    y, half_widths = np.array([(log, half) for _, log, half, _ in known]).T
    w = (quantile / half_widths) ** 2
    x, y = x - math.fsum(w * x) / math.fsum(w), y - math.fsum(w * y) / math.fsum(w)
    spread = math.fsum(w * x**2)
    slope = math.fsum(w * x * y) / spread
    misfit = math.fsum(w * (y - slope * x) ** 2)
    birge = math.sqrt(misfit / (len(known) - 2)) if len(known) > 2 else 1.0
    half_width = quantile * (max(1.0, birge) / math.sqrt(spread))
    factor = exponentiate(Estimate(slope, slope - half_width, slope + half_width, confidence))
    low, high = factor.low or 0.0, math.inf if factor.high is None else factor.high
    is_flat = low >= 1.0 / _FLAT_FACTOR and high <= _FLAT_FACTOR
    direction: TrendDirection = "flat" if is_flat else "unclear"
    if not low <= 1.0 <= high:
        direction = "rose" if low > 1.0 else "fell"
    return NoiseTrend(direction=direction, factor=factor, from_step=first, to_step=last)


def predict_noise_scale(noise: NoiseConclusion, steps: int) -> Estimate | None:
    """Return φ averaged over a run of so many steps, by a power law through its late points.

    Each end of the interval by both its ends; None where those are too few or show no clear trend.
    """
    late, average, batch_size = noise.course[-_LATE_POINTS:], noise.decisive, noise.batch_size
    trend = fit_trend(late)
    if trend is None or trend.direction == "unclear" or len(late) < _LEAST_LATE_POINTS:
        return None
    measured = max(sum(point.span_steps or 0 for point in noise.points), trend.to_step + 1)
    if average is None or batch_size is None or steps <= measured:
        return average
    run = math.log1p(trend.to_step) - math.log1p(trend.from_step)
    pieces = (np.arange(_PIECES) + 0.5) / _PIECES * math.log(steps / measured)
    weights = np.exp(pieces)

    def extend(average: float | None, last: float | None, factor: float | None) -> float | None:
        """Return φ of the mean share of the measured steps and of those along the law."""
        if average is None or last is None or factor is None or last <= 0.0:
            return None
        power = math.log(factor) / run
        # B0/φ on the log scale: between points that lie near each other the power is large.
        start = math.log(batch_size / last) - power * math.log((measured + 1) / (trend.to_step + 1))
        shares = 1.0 / (1.0 + np.exp(np.minimum(start - power * pieces, MOST_LOG)))
        later = float(np.average(shares, weights=weights))
        known = to_share(average, batch_size)
        share = (measured * known + (steps - measured) * later) / steps
        return batch_size * share / (1.0 - share)

    ends = ((each.point, each.low, each.high) for each in (average, late[-1][1], trend.factor))
    point, low, high = (extend(*each) for each in zip(*ends, strict=True))
    return Estimate(point, low, high, average.confidence)
