"""How the noise scale goes along a run, and whether more points could still change the advice.

Legend: φ is the noise scale, x the share of the run's steps between the first and the last point.
"""

import math
from collections.abc import Sequence

from advisor.noise.data import NoiseTrend, TrendDirection
from advisor.statistics import Estimate, exponentiate, two_sided_t

#: A noise scale known within this factor fixes the batch within 25 %, as the batch of least time
#: goes with its root.
SETTLED_FACTOR = 1.6
#: Fewest points before a trajectory may end: two thirds of it, so that the run is still followed.
LEAST_SETTLED_POINTS = 4
#: Degrees of freedom of a point's interval: those of the jackknife over 16 groups, less one.
_POINT_DEGREES = 15


def fit_trend(steps: Sequence[int], estimates: Sequence[Estimate]) -> NoiseTrend | None:
    """Return how φ went; None with fewer than two points whose ends are both known and positive.

    A line log φ = a + s·x by weighted least squares, each point with the standard error that its
    interval stands for on the log scale. The slope's standard error is multiplied by the Birge
    ratio where the points scatter about the line by more than that, as they do where φ does not go
    along an exponential; the interval of exp(s) is Student's with the degrees of freedom of one
    point's interval. The points are assumed independent given the trajectory.

    Args:
        steps: Optimizer steps before each estimate, ascending.
        estimates: One for each step, all of one confidence.

    Source: weighted least squares; Birge 1932, Phys. Rev. 40:207, for the ratio; its use here is
    derived.
    """
    known = [
        (step, math.log(item.point), (math.log(item.high) - math.log(item.low)) / 2.0, item)
        for step, item in zip(steps, estimates, strict=True)
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
    shares = [(step - first) / (last - first) for step, *_ in known]
    slope, error = _fit_line(
        shares, [log for _, log, *_ in known], [half / quantile for _, _, half, _ in known]
    )
    logs = Estimate(slope, slope - quantile * error, slope + quantile * error, confidence)
    factor = exponentiate(logs)
    return NoiseTrend(
        direction=_name_direction(factor), factor=factor, from_step=first, to_step=last
    )


def explain_settled(
    points: Sequence[Estimate],
    average: Estimate | None,
    trend: NoiseTrend | None,
    *,
    settling_noise_scale: float | None = None,
) -> str | None:
    """Return why further points of a trajectory would not change the advice; None where they may.

    Either the average is known within a factor of 1.6, or every point is surely above the noise
    scale from which on the advised batch stays the same. Never while the noise scale is seen to
    rise or fall, save for a rise in the second case.

    Args:
        points: The noise scale at each point so far.
        average: The run's average so far.
        trend: Of the points.
        settling_noise_scale: Noise scale, in samples, from which on the advised batch is the same;
            None where it is not known.

    Source: derived; simulated in benchmarks/noise_stopping.py.
    """
    if len(points) < LEAST_SETTLED_POINTS or average is None or trend is None:
        return None
    if settling_noise_scale is not None and trend.direction != "fell":
        lows = [item.low for item in points]
        if all(low is not None and low >= settling_noise_scale for low in lows):
            return (
                f"it is surely above {settling_noise_scale:.3g}, from where on the advised batch "
                "is the same"
            )
    if is_known_within(average, SETTLED_FACTOR) and _is_steady(trend):
        return f"it is steady and its average known within a factor of {SETTLED_FACTOR:g}"
    return None


def is_known_within(estimate: Estimate, factor: float) -> bool:
    """Return whether both ends are within the factor of the point."""
    point, low, high = estimate.point, estimate.low, estimate.high
    if point is None or low is None or high is None or low <= 0.0:
        return False
    return high <= factor * point and point <= factor * low


def _is_steady(trend: NoiseTrend) -> bool:
    """Return whether no change is seen and the likeliest one is small."""
    change = trend.factor.point
    return (
        trend.direction in {"flat", "unclear"}
        and change is not None
        and 1.0 / SETTLED_FACTOR <= change <= SETTLED_FACTOR
    )


def _fit_line(
    shares: Sequence[float], logs: Sequence[float], errors: Sequence[float]
) -> tuple[float, float]:
    """Return the slope and its standard error."""
    weights = [error**-2 for error in errors]
    total = math.fsum(weights)
    centre = math.fsum(w * x for w, x in zip(weights, shares, strict=True)) / total
    level = math.fsum(w * y for w, y in zip(weights, logs, strict=True)) / total
    spread = math.fsum(w * (x - centre) ** 2 for w, x in zip(weights, shares, strict=True))
    rows = list(zip(weights, shares, logs, strict=True))
    slope = math.fsum(w * (x - centre) * (y - level) for w, x, y in rows) / spread
    misfit = math.fsum(w * (y - level - slope * (x - centre)) ** 2 for w, x, y in rows)
    birge = math.sqrt(misfit / (len(rows) - 2)) if len(rows) > 2 else 1.0
    return slope, max(1.0, birge) / math.sqrt(spread)


def _name_direction(factor: Estimate) -> TrendDirection:
    low, high = factor.low or 0.0, math.inf if factor.high is None else factor.high
    if low > 1.0:
        return "rose"
    if high < 1.0:
        return "fell"
    return "flat" if low >= 1.0 / SETTLED_FACTOR and high <= SETTLED_FACTOR else "unclear"
