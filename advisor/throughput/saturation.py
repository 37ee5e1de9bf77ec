"""Where larger micro-batches stop being faster.

The saturation batch is the smallest size whose throughput is within the tolerance of every larger
batch: those timed and, beyond the largest of them, those that the law predicts.

           throughput
      limit |. . . . . . . . . . . . . . . . . . . . . .   the law's, beyond the timed sizes
            |                      o          o
    95 %    |- - - - - - - - o - - - - - - - - - - - - -
            |         o
            |    o
            +----+----+------+-----+----------+------------ micro-batch size
                    low ]  [ high                          the interval: grid and noise together

Low end: no timed larger size is surely faster by more than the tolerance. High end: surely none is,
and no law that the sizes allow saturates later; open where that is beyond what can run. On stairs
the laws alone bound it, if they hold for all sizes: between two timed sizes lie some that are
faster than both. Where throughput falls after a peak that no law explains, only the timed sizes do.
"""

import math
from collections.abc import Sequence

import numpy as np

from advisor.statistics import Estimate, two_sided_t
from advisor.throughput.data import Saturation, SaturationStatus, ThroughputFall
from advisor.throughput.law import (
    StepLaw,
    bound_saturation,
    compute_best_per_s,
    evaluate_step_law,
    predict_law_saturation,
)
from advisor.throughput.law_fits import fit_step_laws
from advisor.throughput.paired_sizes import PairedSizes, compute_level_errors

#: Throughput that a larger batch must gain to count as faster. On the affine law, doubling a batch
#: that is within 5 % of the limit gains 2.6 %, for about twice the memory.
SATURATION_TOLERANCE_FRACTION = 0.05
#: Half-width of the interval of a throughput ratio above which nothing is concluded: twice the
#: tolerance, where sizes that differ by the tolerance cannot be told apart.
TOO_NOISY_FRACTION = 2.0 * SATURATION_TOLERANCE_FRACTION
#: Fewest sizes that show a curve.
LEAST_SIZES = 3
#: Confidence of the interval, both sides together.
CONFIDENCE = 0.95

#: Least error of a level, in log throughput, that is enlarged where no law explains the sizes.
_LEAST_ERROR = 1e-4
#: The tolerance as a difference of log throughputs, a hair wider so that rounding decides nothing.
_TOLERANCE = -math.log1p(-SATURATION_TOLERANCE_FRACTION) + 1e-9


def find_saturation(
    paired: PairedSizes | None,
    *,
    largest_micro_batch_size: int | None,
    memory_limited: bool,
    host_bound: bool,
) -> Saturation:
    """Return the saturation batch with its interval, and why the curve ends where it does.

    Nothing is concluded from fewer than three sizes or two sessions, or where the noise is so large
    that a difference of the tolerance would not show.

    Args:
        paired: All sizes on one scale; None where no two sessions can be compared.
        largest_micro_batch_size: The largest size that is feasible, timed or not; None where the
            largest one timed is taken for it.
        memory_limited: Whether memory, not a cap or the dataset, makes that size the largest.
        host_bound: Whether the host still limits the largest size.
    """
    if paired is None or len(paired.sizes) < LEAST_SIZES:
        return Saturation(batch_size=None, low=None, high=None, status="inconclusive")
    peak = _find_peak(paired)
    start, laws = _fit_laws(paired, peak)
    is_stairs = any(law.kind == "stairs" and law.tile * 3 <= paired.sizes[-1] for law in laws)
    is_retrograde = not is_stairs and peak < len(paired.sizes) - 1
    choice = _find_choice(paired, laws, start, peak) if laws or is_retrograde else None
    low, high, choice = _bound(paired, laws, start, choice)
    if high is not None and high > (largest_micro_batch_size or paired.sizes[-1]):
        high = None
    size, needed = None if choice is None else paired.sizes[choice], None
    status: SaturationStatus = "inconclusive"
    if _is_too_noisy(paired):
        size = None
    elif host_bound and not is_retrograde:
        size, high, status = None, None, "host_bound"
    elif size is not None:
        status = "retrograde" if is_retrograde else "saturated"
    else:
        high = None
        if laws:
            least = predict_law_saturation(laws[0], SATURATION_TOLERANCE_FRACTION)
            needed = math.ceil(least - 1e-9)
        is_out_of_reach = needed is None or needed > (largest_micro_batch_size or 0)
        if memory_limited and is_out_of_reach:
            status = "memory_limited"
    return Saturation(batch_size=size, low=low, high=high, status=status, needed_batch_size=needed)


def measure_fall(paired: PairedSizes | None, saturation: Saturation) -> ThroughputFall | None:
    """Return how much slower the largest size is than the fastest, where throughput falls.

    The interval holds for each size that could have been the fastest together, so picking the
    fastest one does not make it too narrow.
    """
    if paired is None or saturation.status != "retrograde":
        return None
    last, peak = len(paired.sizes) - 1, _find_peak(paired)
    fall, margin = _measure_fall(paired, peak)
    point, low, high = (-math.expm1(-value) for value in (fall, fall - margin, fall + margin))
    return ThroughputFall(
        peak_micro_batch_size=paired.sizes[peak],
        micro_batch_size=paired.sizes[last],
        slower_fraction=Estimate(point, low, high, CONFIDENCE),
    )


def _fit_laws(paired: PairedSizes, peak: int) -> tuple[int, tuple[StepLaw, ...]]:
    """Return the laws of the largest sizes, and the index of the size where these begin.

    They are as many as any law explains: small sizes may follow a law of their own. Where no law
    explains even the last three, their errors are taken for larger until one does. Where throughput
    falls after a peak laws without the peak say nothing of what is before it: there may be none.
    """
    errors = np.maximum(compute_level_errors(paired), _LEAST_ERROR)
    last = len(paired.sizes) - LEAST_SIZES
    attempts = [(start, 1.0) for start in range(min(last, peak) + 1)]
    if peak == len(paired.sizes) - 1:
        attempts += [(last, 2.0**k) for k in range(1, 7)]
    for start, factor in attempts:
        laws = fit_step_laws(
            paired.sizes[start:],
            paired.step_s[start:],
            errors=factor * errors[start:],
            degrees_of_freedom=paired.degrees_of_freedom,
        )
        if laws:
            return start, laws
    return len(paired.sizes), ()


def _find_choice(paired: PairedSizes, laws: Sequence[StepLaw], start: int, peak: int) -> int | None:
    """Return the index of the smallest size within the tolerance of the best, None without.

    Where a law holds for all sizes its own levels are compared: noise that moves one size alone
    moves no answer. Else the measured ones are, and the best is no less than any mean of the
    largest sizes up to the peak: the luckiest size alone does not set it.
    """
    levels = paired.log_throughput
    limit = math.log(compute_best_per_s(laws[0])) if laws else -math.inf
    if start == 0:
        sizes = np.asarray(paired.sizes, dtype=np.float64)
        levels = np.log(sizes / evaluate_step_law(laws[0], sizes))
    means = np.cumsum(levels[peak::-1]) / np.arange(1, peak + 2)
    within = np.flatnonzero(levels >= max(limit, float(means.max())) - _TOLERANCE)
    return int(within[0]) if within.size else None


def _bound(
    paired: PairedSizes, laws: Sequence[StepLaw], start: int, choice: int | None
) -> tuple[int, int | None, int | None]:
    """Return the interval's ends and the choice, moved into it (see above)."""
    first_open = _find_first_open(paired)
    low = paired.sizes[0] if first_open == 0 else paired.sizes[first_open - 1] + 1
    high = None
    if laws:
        quantile = two_sided_t(CONFIDENCE, paired.degrees_of_freedom)
        least, most = bound_saturation(laws, SATURATION_TOLERANCE_FRACTION, quantile)
        low, high = max(1, min(low, math.ceil(least - 1e-9))), math.ceil(most - 1e-9)
    if choice is None:
        return low, high, None
    high = max(high or 1, paired.sizes[choice])
    if start or laws[0].kind != "stairs":
        choice = max(choice, first_open)
        high = max(high, paired.sizes[_find_first_sure(paired)])
        high = next((size for size in paired.sizes if size >= high), high)
    return low, high, choice


def _find_peak(paired: PairedSizes) -> int:
    """Return the index of the fastest size if throughput clearly falls after it, else the last.

    Clearly: the largest size is slower by more than the tolerance, and slower at all with
    confidence, corrected for having looked at every size. A dip that recovers is a stair, no fall.
    """
    peak = int(np.argmax(paired.log_throughput))
    fall, margin = _measure_fall(paired, peak)
    return peak if fall > max(_TOLERANCE, margin) else len(paired.sizes) - 1


def _measure_fall(paired: PairedSizes, peak: int) -> tuple[float, float]:
    """Return the log throughput lost from the peak to the largest size, and its half-width."""
    others = max(len(paired.sizes) - 1, 1)
    quantile = two_sided_t(1.0 - (1.0 - CONFIDENCE) / others, paired.degrees_of_freedom)
    fall = float(paired.log_throughput[peak] - paired.log_throughput[-1])
    return fall, quantile * float(paired.difference_errors[peak, -1])


def _find_first_open(paired: PairedSizes) -> int:
    """Return the index of the smallest size that no timed larger one surely beats.

    Sizes are tried from the smallest up, so an error needs a false alarm at the answer itself;
    the quantile is corrected for the number of larger sizes it is compared with.
    """
    last = len(paired.sizes) - 1
    open_ones = (
        index
        for index in range(last)
        if _gain_most(paired, index, sign=-1.0, comparisons=last - index) <= _TOLERANCE
    )
    return next(open_ones, last)


def _find_first_sure(paired: PairedSizes) -> int:
    """Return the index of the smallest size that surely no timed larger one beats."""
    last = len(paired.sizes) - 1
    return next((i for i in range(last) if _gain_most(paired, i, sign=1.0) <= _TOLERANCE), last)


def _gain_most(paired: PairedSizes, index: int, *, sign: float, comparisons: int = 1) -> float:
    """Return the most that a larger size gains in log throughput, at that end of its interval."""
    confidence = 1.0 - (1.0 - CONFIDENCE) / comparisons
    quantile = two_sided_t(confidence, paired.degrees_of_freedom)
    gains = paired.log_throughput[index + 1 :] - paired.log_throughput[index]
    return float(np.max(gains + sign * quantile * paired.difference_errors[index, index + 1 :]))


def _is_too_noisy(paired: PairedSizes) -> bool:
    quantile = two_sided_t(CONFIDENCE, paired.degrees_of_freedom)
    typical = float(np.median(paired.difference_errors[np.triu_indices(len(paired.sizes), 1)]))
    return quantile * typical > TOO_NOISY_FRACTION
