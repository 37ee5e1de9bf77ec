"""From which micro-batch on larger ones that can run are hardly faster, or that none is yet.

       throughput
            |                  . - o - - . o       o: timed sizes; the band: what may lie between
    95 %    |- - - - - - - . o ' - - - - - - - -
            |      .  o  '
            +----+----+------+-----+----------+------------ micro-batch size
                    low ]  [ high

Low: no smaller size is within the tolerance anywhere in the band. High: from there on surely none
that is larger gains more. The band is as wide as the law's coefficients are unsure and as the timed
sizes miss it; where they do by more than noise, it lies between them, since time never decreases.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from advisor.predict.data import LimitedBy
from advisor.statistics import Estimate, two_sided_t
from advisor.throughput.data import Saturation, SaturationStatus, ThroughputFall
from advisor.throughput.paired_sizes import PairedSizes, find_half
from advisor.throughput.step_law import Floats, StepLaw, tabulate

#: Throughput that a larger batch must gain to count as faster. On the affine law, doubling a batch
#: that is within 5 % of the limit gains 2.6 %, for about twice the memory.
SATURATION_TOLERANCE_FRACTION = 0.05
#: Half-width of the last doubling's gain from which on sessions contradict each other.
TOO_NOISY_FRACTION = 2.0 * SATURATION_TOLERANCE_FRACTION
#: Half-width at which another session would change no answer: a fifth of the tolerance.
_SETTLED_FRACTION = SATURATION_TOLERANCE_FRACTION / 5.0
#: Ratio of the interval's ends at which it is narrow enough.
_SETTLED_RATIO = 4.0
#: Log of the ratio of two sizes that count as one.
_SAME_RATIO = 0.02
#: Fewest sizes that show a curve.
LEAST_SIZES = 3
#: Confidence of the interval, both sides together.
CONFIDENCE = 0.95
#: Sizes at which the curve is looked at, about.
_GRID_SIZES = 120
#: Within this ratio of a size its neighbours' misfit counts as its own.
_NEIGHBOUR_RATIO = 4.0
#: Misfits that the difference of two sizes stays within in 95 % of cases, anywhere on treads.
_MISFIT_QUANTILE = 1.6
#: Least misfit: a law is never that true.
_LEAST_MISFIT = 0.0025
#: Times the largest size up to which the law is asked where saturation would be.
_MOST_BEYOND = 8.0
#: The tolerance as a difference of log throughputs, a hair wider so that rounding decides nothing.
_TOLERANCE = -math.log1p(-SATURATION_TOLERANCE_FRACTION) + 1e-9


class _Curve(NamedTuple):
    """Log throughput at ascending sizes, and the half-widths of all differences."""

    sizes: Floats
    levels: Floats
    margins: Floats

    def find_low(self) -> int:
        """Return the least size on which it may be that none gains more than the tolerance."""
        first = self.find_first(sign=-1.0)
        return 1 + int(self.sizes[first - 1]) if first else int(self.sizes[0])

    def find_first(self, sign: float = 0.0) -> int:
        """Return the first place from which no larger size gains more, by this end of the gains."""
        gains = self.levels[None, :] - self.levels[:, None] + sign * self.margins
        gains[np.tril_indices(len(gains))] = -math.inf
        return int(np.argmax(gains.max(axis=1) <= _TOLERANCE))


def find_saturation(
    paired: PairedSizes,
    laws: Sequence[StepLaw],
    *,
    range_end: LimitedBy,
    runnable: int,
    host_bound: bool,
) -> Saturation:
    """Return the saturation batch with its interval, or by how much the last doubling gains.

    The laws are those that may be true, the likeliest first; `runnable` sizes can be timed in all,
    and `host_bound` is of the largest.
    """
    found = Saturation(
        batch_size=None, low=None, high=None, status="inconclusive", range_end=range_end
    )
    if range_end != "budget" and 0 < runnable < LEAST_SIZES:
        return replace(found, is_range_short=True)
    if not laws or len(paired.sizes) < LEAST_SIZES or paired.degrees_of_freedom < 1:
        return found
    gain = _measure_last_gain(paired, laws)
    share = gain.map(lambda log: math.expm1(min(log, 1.0)))
    found = replace(found, last_gain=share)
    point, least, most = gain.point or 0.0, gain.low or 0.0, gain.high or 0.0
    if most - least > 2.0 * TOO_NOISY_FRACTION and least <= _TOLERANCE < most:
        return found
    timed = np.asarray(paired.sizes, np.float64)
    if laws[0].stands:
        levels, curves = _span(laws[0], timed, 0.0), [_draw_curve(paired, law) for law in laws]
        low = min(curve.find_low() for curve in curves)
    else:
        levels = _span_table(paired, timed)
        low, curves = _find_low_between(paired), [levels]
    size = paired.sizes[levels.find_first()]
    found = replace(found, low=min(low, size))
    falls = laws[0].kind != "stairs" and measure_fall(paired) is not None
    if host_bound and not falls:
        return replace(found, status="host_bound")
    if point > _TOLERANCE:
        status: SaturationStatus = "memory_limited" if range_end == "memory" else "rising"
        # The least range end at which the law's last doubling gains no more, if near.
        ends = np.geomspace(paired.sizes[-1], _MOST_BEYOND * paired.sizes[-1], _GRID_SIZES)
        gains = np.log(2.0 * laws[0].evaluate(ends / 2.0) / laws[0].evaluate(ends))
        flat = np.flatnonzero(gains <= _TOLERANCE)
        needed = math.ceil(ends[flat[0]]) if flat.size else None
        return replace(found, status=status, needed_batch_size=needed)
    high = max(size, *(int(curve.sizes[curve.find_first(sign=1.0)]) for curve in curves))
    return replace(
        found,
        batch_size=size,
        high=None if most > _TOLERANCE else high,
        status="retrograde" if falls else "saturated",
    )


def is_settled(saturation: Saturation) -> bool:
    """Return whether another session would change nothing of it."""
    gain, low, high = saturation.last_gain, saturation.low, saturation.high
    if saturation.is_range_short:
        return True
    if saturation.status == "inconclusive" or saturation.range_end == "budget":
        return False
    if gain is None or gain.low is None or gain.high is None:
        return False
    is_narrow = gain.high - gain.low <= 2.0 * _SETTLED_FRACTION
    if saturation.batch_size is None:
        return is_narrow or not gain.low <= SATURATION_TOLERANCE_FRACTION < gain.high
    return is_narrow if high is None or low is None else high <= _SETTLED_RATIO * low


def predict_saturation(law: StepLaw, timed: Sequence[int]) -> int:
    """Return the smallest size that the law puts within the tolerance of every larger one."""
    sizes = _space_sizes(timed)
    return int(sizes[_span(law, sizes, 0.0).find_first()])


def measure_fall(paired: PairedSizes) -> ThroughputFall | None:
    """Return how much slower the largest size is than the fastest; None within tolerance or noise.

    The interval holds for all sizes together, of which the fastest was picked.
    """
    if paired.degrees_of_freedom < 1:
        return None
    levels = np.log(np.asarray(paired.sizes) / np.asarray(paired.step_s))
    peak, others = int(np.argmax(levels)), max(len(levels) - 1, 1)
    quantile = two_sided_t(1.0 - (1.0 - CONFIDENCE) / others, paired.degrees_of_freedom)
    fall = float(levels[peak] - levels[-1])
    margin = quantile * math.hypot(paired.errors[peak], paired.errors[-1])
    if fall <= max(_TOLERANCE, margin):
        return None
    logs = Estimate(fall, fall - margin, fall + margin, CONFIDENCE)
    return ThroughputFall(
        peak_micro_batch_size=paired.sizes[peak],
        micro_batch_size=paired.sizes[-1],
        slower_fraction=logs.map(lambda log: -math.expm1(-log)),
    )


def _measure_last_gain(paired: PairedSizes, laws: Sequence[StepLaw]) -> Estimate:
    """Return what doubling to the largest size gains in log throughput.

    By both sizes alone where enough sessions timed them beside each other; else by every law that
    may be true where the first stands, or the times of all sizes.
    """
    half, largest = find_half(paired.sizes), paired.sizes[-1]
    ratio = paired.compare(half, largest)
    if ratio is not None and abs(math.log(2.0 * half / largest)) <= _SAME_RATIO:
        return ratio.map(lambda log: math.log(2.0) - log, falls=True)
    ends = np.asarray([_halve(paired.sizes), largest], np.float64)
    curves = [_span_table(paired, ends)]
    if laws[0].stands:
        curves = [_draw_curve(paired, law) for law in laws]
    places = [int(np.searchsorted(curve.sizes, ends[0])) for curve in curves]
    gains = [float(c.levels[-1] - c.levels[at]) for c, at in zip(curves, places, strict=True)]
    margins = [float(c.margins[at, -1]) for c, at in zip(curves, places, strict=True)]
    return Estimate(
        gains[0],
        float(np.subtract(gains, margins).min()),
        float(np.add(gains, margins).max()),
        CONFIDENCE,
    )


def _draw_curve(paired: PairedSizes, law: StepLaw) -> _Curve:
    """Return the band about a law, wider by what timed sizes near each size miss it by."""
    sizes, timed = _space_sizes(paired.sizes), np.asarray(paired.sizes, np.float64)
    if law.kind == "stairs":
        ends = np.floor(np.ceil(sizes / law.parameter) * law.parameter)
        sizes = np.unique(np.concatenate([sizes, ends[ends < sizes[-1]]]))
    curve = _span(law, sizes, two_sided_t(CONFIDENCE, paired.degrees_of_freedom))
    missed = np.square(np.log(np.asarray(paired.step_s) / law.evaluate(timed)))
    apart = np.abs(np.log(sizes[:, None] / timed[None, :])) / math.log(_NEIGHBOUR_RATIO)
    weights = np.maximum(1.0 - apart, 1e-9)
    squared = np.maximum((weights * missed).sum(axis=1) / weights.sum(axis=1), _LEAST_MISFIT**2)
    misfit = _MISFIT_QUANTILE * np.sqrt(squared[:, None] + squared[None, :])
    return curve._replace(margins=np.hypot(curve.margins, misfit))


def _find_low_between(paired: PairedSizes) -> int:
    """Return the least size that may be within the tolerance where no law stands.

    Between two timed sizes a step takes no less than at the smaller one; that is all there is.
    """
    margins = two_sided_t(CONFIDENCE, paired.degrees_of_freedom) * np.asarray(paired.errors)
    table = np.log(tabulate(paired.sizes, paired.step_s, paired.errors).coefficients)
    timed = np.asarray(paired.sizes, np.float64)
    best = np.maximum.accumulate((np.log(timed) - table - margins)[::-1])[::-1]
    # From here on a size that takes no longer than the timed one is within the tolerance.
    least = np.maximum(np.exp(best - _TOLERANCE + table - margins), timed)
    possible = np.append(least[:-1] < timed[1:], True)
    return math.ceil(float(least[int(np.argmax(possible))]) - 1e-9)


def _span_table(paired: PairedSizes, sizes: Floats) -> _Curve:
    table = tabulate(paired.sizes, paired.step_s, paired.errors)
    return _span(table, sizes, two_sided_t(CONFIDENCE, paired.degrees_of_freedom))


def _span(law: StepLaw, sizes: Floats, quantile: float) -> _Curve:
    """Return the law's curve, the half-widths so many standard errors of its coefficients."""
    seconds = law.evaluate(sizes)
    slopes = law.expand(sizes) / seconds[:, None]
    products = slopes @ np.asarray(law.covariance) @ slopes.T
    own = np.diag(products)
    noise = np.sqrt(np.maximum(own[:, None] + own[None, :] - 2.0 * products, 0.0))
    return _Curve(sizes, np.log(sizes / seconds), quantile * noise)


def _space_sizes(timed: Sequence[int]) -> Floats:
    """Return sizes at about equal ratios, the timed ones and half of the largest among them."""
    spaced = np.round(np.geomspace(timed[0], timed[-1], _GRID_SIZES))
    return np.unique(np.concatenate([spaced, np.asarray([_halve(timed), *timed], np.float64)]))


def _halve(timed: Sequence[int]) -> int:
    return max(math.ceil(timed[-1] / 2.0), timed[0])
