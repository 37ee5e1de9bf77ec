"""Estimates with intervals, and the few rules of statistics that make them.

numpy and scipy are imported where they are used: every derived value type needs `Estimate`, and
reading one must not cost their import.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


#: Two-sided normal quantile of 95 % confidence.
NORMAL_QUANTILE = 1.959964
#: Beyond it exp overflows.
MOST_LOG = 700.0


class Estimate(msgspec.Struct, frozen=True):
    """A quantity with its confidence interval; an unknown bound is None, never a made-up number."""

    point: float | None
    low: float | None
    high: float | None
    confidence: float = 0.95

    def map(self, convert: Callable[[float], float | None], *, falls: bool = False) -> "Estimate":
        """Return a monotone function of the quantity; where it falls the ends change places."""
        ends = (self.point, self.high, self.low) if falls else (self.point, self.low, self.high)
        point, low, high = (None if end is None else convert(end) for end in ends)
        return Estimate(point, low, high, self.confidence)


def student_t_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Return the value that Student's t stays below with the given probability.

    Raises:
        ValueError: The probability is not between 0 and 1, or there are no degrees of freedom.
    """
    if not 0.0 < probability < 1.0 or not degrees_of_freedom > 0.0:
        raise ValueError(f"no t quantile at {probability} with {degrees_of_freedom} degrees")
    from scipy.special import stdtrit  # noqa: PLC0415  # see the module's docstring

    return float(stdtrit(degrees_of_freedom, probability))


def two_sided_t(confidence: float, degrees_of_freedom: float) -> float:
    """Return t such that the interval of ±t standard errors has the given confidence."""
    return student_t_quantile(0.5 + confidence / 2.0, degrees_of_freedom)


def median(values: Sequence[float]) -> float:
    """Return the middle value, or the mean of the two middle ones; ValueError without any."""
    return float(statistics.median(values))


def estimate_mean(values: Sequence[float]) -> Estimate:
    """Return the mean with its t-interval of 95 %, which one value alone does not have.

    The values are assumed independent and about normal.

    Source: Student 1908.
    """
    mean, half_width = statistics.fmean(values) if values else None, _find_half_width(values, 0.95)
    if mean is None or half_width is None:
        return Estimate(mean, None, None)
    return Estimate(mean, mean - half_width, mean + half_width)


def estimate_median_over_sessions(
    values_per_session: Sequence[Sequence[float]], confidence: float = 0.95
) -> Estimate:
    """Return the median of the sessions' medians, with a t-interval over sessions.

    The replicate is the session (one process): values within a process agree far better than
    processes do. The interval is that of the sessions' mean, wide where they disagree, and is made
    to hold the point. Sessions are assumed independent, their medians about normal; empty ones do
    not count.
    """
    medians = [median(values) for values in values_per_session if values]
    point, half_width = median(medians) if medians else None, _find_half_width(medians, confidence)
    if point is None or half_width is None:
        return Estimate(point, None, None, confidence)
    mean = statistics.fmean(medians)
    return Estimate(point, min(point, mean - half_width), max(point, mean + half_width), confidence)


def estimate_median_rate(rates: Sequence[float]) -> Estimate:
    """Return the median of figures above 0, with a t-interval on the log scale: no end is below 0.

    One value alone has no interval.
    """
    return exponentiate(estimate_median_over_sessions([(math.log(rate),) for rate in rates]))


def _find_half_width(values: Sequence[float], confidence: float) -> float | None:
    """Return that of the mean's interval, None with fewer than two values."""
    if len(values) < 2:
        return None
    standard_error = statistics.stdev(values) / math.sqrt(len(values))
    return two_sided_t(confidence, len(values) - 1) * standard_error


def exponentiate(logs: Estimate, *, factor: float = 1.0, inverse: bool = False) -> Estimate:
    """Return factor·exp(x), or factor·exp(−x), of an estimate of x made on the log scale.

    A bound that leaves any sensible range is unknown.
    """
    sign = -1.0 if inverse else 1.0
    return logs.map(
        lambda log: None if sign * log > MOST_LOG else factor * math.exp(sign * log), falls=inverse
    )


def compare_rates(rates: Sequence[float], reference: Sequence[float]) -> Estimate:
    """Return the ratio of the medians, with Welch's interval of 95 % on the log scale.

    The interval is unknown with fewer than two values on either side, as is all without any.

    Source: Welch 1947.
    """
    if not rates or not reference:
        return Estimate(None, None, None)
    point = median(rates) / median(reference)
    if len(rates) < 2 or len(reference) < 2:
        return Estimate(point, None, None)
    sides = [[math.log(rate) for rate in side] for side in (rates, reference)]
    center = statistics.fmean(sides[0]) - statistics.fmean(sides[1])
    shares = [statistics.variance(side) / len(side) for side in sides]
    variance = math.fsum(shares)
    if variance == 0.0:
        return Estimate(point, point, point)
    degrees = 1.0 / math.fsum(
        (share / variance) ** 2 / (len(side) - 1) for share, side in zip(shares, sides, strict=True)
    )
    half_width = two_sided_t(0.95, degrees) * math.sqrt(variance)
    low, high = math.exp(center - half_width), math.exp(center + half_width)
    return Estimate(point, min(point, low), max(point, high))


def jackknife_covariance(leave_one_out: "npt.ArrayLike") -> "npt.NDArray[np.float64]":
    """Return the jackknife covariance of p statistics: (J−1)/J · Σ (θ_j − θ̄)(θ_j − θ̄)ᵀ.

    The J groups are assumed independent and of about one size.

    `leave_one_out` is J×p; row j holds the statistics computed without group j.

    Raises:
        ValueError: Not a table of at least two rows.

    Source: Tukey 1958; Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans, ch. 3.
    """
    import numpy as np  # noqa: PLC0415  # see the module's docstring

    replicates = np.asarray(leave_one_out, dtype=np.float64)
    if replicates.ndim != 2 or replicates.shape[0] < 2:
        raise ValueError("the jackknife needs a table of at least two rows")
    groups = replicates.shape[0]
    deviations = replicates - replicates.mean(axis=0)
    covariance: npt.NDArray[np.float64] = (groups - 1) / groups * (deviations.T @ deviations)
    return covariance


def fieller_ratio(
    numerator: float,
    denominator: float,
    covariance: Sequence[Sequence[float]],
    degrees_of_freedom: float,
    confidence: float = 0.95,
) -> Estimate:
    """Return numerator/denominator with Fieller's interval; nothing is clamped.

    The interval holds every ratio ρ for which numerator − ρ·denominator is within t standard errors
    of zero: A·ρ² − 2·H·ρ + C ≤ 0, with A = denominator² − t²·Var(denominator), C the same of the
    numerator, H = numerator·denominator − t²·Cov; `covariance` is 2×2, of both. Both are assumed
    non-negative by nature, their estimates about normal. The cases:

    * A > 0, denominator > 0: the two roots (which are real then), `low` possibly negative.
    * A ≤ 0 (the denominator may be zero), C > 0, numerator > 0: every ratio from the positive root
      upwards, so `high` is None. The solution's other piece, all negative, is impossible by nature.
    * A ≤ 0 and C ≤ 0 (the numerator may be zero as well), or either clearly negative: no bound.

    `point` is None where the denominator is not positive.

    Source: Fieller 1954, J. R. Stat. Soc. B 16:175.
    """
    (numerator_variance, cross), (_, denominator_variance) = covariance
    t_squared = two_sided_t(confidence, degrees_of_freedom) ** 2
    a = denominator**2 - t_squared * denominator_variance
    h = numerator * denominator - t_squared * cross
    c = numerator**2 - t_squared * numerator_variance
    point = numerator / denominator if denominator > 0.0 else None
    # Real where it is used: the form is −t²·Var(numerator − ρ·denominator) ≤ 0 at ρ = the point.
    root = math.sqrt(max(h**2 - a * c, 0.0))
    if a > 0.0 and point is not None:
        return Estimate(point, (h - root) / a, (h + root) / a, confidence)
    if a > 0.0 or c <= 0.0 or numerator <= 0.0:
        return Estimate(point, None, None, confidence)
    # In the form that subtracts no two near numbers.
    low = c / (h + root) if h > 0.0 else (h - root) / a if a < 0.0 else None
    return Estimate(point, low, None, confidence)
