"""Where larger micro-batches stop being faster.

The saturation batch is the smallest size whose throughput is within the tolerance of every larger
batch. Larger batches are those that were measured and, beyond the largest of them, those that the
fitted law predicts: so the answer does not depend on how far the measurement went.

           throughput
      limit |. . . . . . . . . . . . . . . . . . . . . .   the law's, beyond the measured sizes
            |                      o          o
    95 %    |- - - - - - - - o - - - - - - - - - - - - -
            |         o
            |    o
            +----+----+------+-----+----------+------------ micro-batch size
                    low ]  [ high                          the interval: grid and noise together

The point is the smallest size within the tolerance by the likeliest law, or by the measured levels
where no law fits. A size is left out of the interval from below when some measured larger one is
faster by more than the tolerance with confidence; from above, when it is within the tolerance of
every larger one with confidence, the law's uncertain limit included. Where another law that the
data allow saturates outside of that, the interval reaches there: between the sizes of stairs lie
sizes that are faster than both.
"""

import math
from collections.abc import Sequence

import numpy as np

from advisor.statistics import Estimate, two_sided_t
from advisor.throughput.data import Saturation, ThroughputFall
from advisor.throughput.law import (
    StepLaw,
    bound_saturation,
    compute_best_per_s,
    evaluate_step_law,
    fit_step_laws,
    predict_law_saturation,
)
from advisor.throughput.paired_sizes import PairedSizes, compute_level_errors, smooth_upwards
from advisor.throughput.rise import Rise, compute_contrast_error, estimate_rise

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

    Source: derived.
    """
    if paired is None or len(paired.sizes) < LEAST_SIZES:
        return Saturation(batch_size=None, low=None, high=None, status="inconclusive")
    laws = _fit_laws(paired)
    peak = len(paired.sizes) - 1 if _explain_fall(paired, laws) else _find_peak(paired)
    is_retrograde = peak < len(paired.sizes) - 1
    rise = None if is_retrograde else estimate_rise(paired)
    choice = _find_choice_by_law(paired, laws[0]) if laws else _find_choice(paired, rise, peak)
    low, high, choice = _bound(paired, rise, laws, choice)
    if _is_too_noisy(paired):
        return Saturation(batch_size=None, low=low, high=high, status="inconclusive")
    if host_bound and not is_retrograde:
        return Saturation(batch_size=None, low=low, high=None, status="host_bound")
    if choice is None:
        needed = _predict_needed_size(rise, laws)
        is_out_of_reach = needed is None or needed > (largest_micro_batch_size or 0)
        return Saturation(
            batch_size=None,
            low=low,
            high=None,
            status="memory_limited" if memory_limited and is_out_of_reach else "inconclusive",
            needed_batch_size=needed,
        )
    return Saturation(
        batch_size=paired.sizes[choice],
        low=low,
        high=high,
        status="retrograde" if is_retrograde else "saturated",
    )


def measure_fall(paired: PairedSizes | None, saturation: Saturation) -> ThroughputFall | None:
    """Return how much slower the largest size is than the fastest, where throughput falls.

    None where the curve was not found to be retrograde. The interval holds for each size that could
    have been the fastest together, so picking the fastest one does not make it too narrow.

    Source: derived.
    """
    if paired is None or saturation.status != "retrograde":
        return None
    last, peak = len(paired.sizes) - 1, _find_peak(paired)
    fall = float(paired.log_throughput[peak] - paired.log_throughput[last])
    margin = _quantile_of_fall(paired) * float(paired.difference_errors[peak, last])
    point, low, high = (-math.expm1(-value) for value in (fall, fall - margin, fall + margin))
    return ThroughputFall(
        peak_micro_batch_size=paired.sizes[peak],
        micro_batch_size=paired.sizes[last],
        slower_fraction=Estimate(point, low, high, CONFIDENCE),
    )


def _bound(
    paired: PairedSizes, rise: Rise | None, laws: Sequence[StepLaw], choice: int | None
) -> tuple[int, int | None, int | None]:
    """Return the interval's ends and the choice, moved into it.

    The measured sizes bound the saturation batch if throughput rises evenly between them; the laws
    widen that by where else it may lie. Stairs do not rise evenly: there the laws alone tell.
    """
    first_open, first_sure = _find_first_open(paired), _find_first_sure(paired, rise)
    low = paired.sizes[0] if first_open == 0 else paired.sizes[first_open - 1] + 1
    high = None if first_sure is None else paired.sizes[first_sure]
    if laws:
        quantile = two_sided_t(CONFIDENCE, paired.degrees_of_freedom)
        least, most = bound_saturation(laws, SATURATION_TOLERANCE_FRACTION, quantile)
        low = max(1, min(low, math.ceil(least - 1e-9)))
        if laws[0].kind == "stairs":
            least_high = 0 if choice is None else paired.sizes[choice]
            return low, max(math.ceil(most - 1e-9), least_high), choice
        high = None if high is None else max(high, math.ceil(most - 1e-9))
    if choice is not None:
        choice = max(choice, first_open)
        choice = choice if first_sure is None else min(choice, first_sure)
    return low, high, choice


def _find_peak(paired: PairedSizes) -> int:
    """Return the index of the fastest size if throughput clearly falls after it, else the last.

    Clearly: the largest size is slower by more than the tolerance, and slower at all with
    confidence, corrected for having looked at every size. A dip that recovers is a stair, no fall.
    """
    last = len(paired.sizes) - 1
    peak = int(np.argmax(paired.log_throughput))
    fall = float(paired.log_throughput[peak] - paired.log_throughput[last])
    error = float(paired.difference_errors[peak, last])
    is_clear = fall > _TOLERANCE and fall > _quantile_of_fall(paired) * error
    return peak if is_clear else last


def _quantile_of_fall(paired: PairedSizes) -> float:
    """Return the quantile of a fall from any of the sizes to the largest, all of them together."""
    others = max(len(paired.sizes) - 1, 1)
    return two_sided_t(1.0 - (1.0 - CONFIDENCE) / others, paired.degrees_of_freedom)


def _find_first_open(paired: PairedSizes) -> int:
    """Return the index of the smallest size that no measured larger one surely beats.

    Sizes are tried from the smallest up, so an error needs a false alarm at the answer itself;
    the quantile is corrected for the number of larger sizes it is compared with.
    """
    last = len(paired.sizes) - 1
    for index in range(last):
        larger = slice(index + 1, None)
        confidence = 1.0 - (1.0 - CONFIDENCE) / (last - index)
        margins = (
            two_sided_t(confidence, paired.degrees_of_freedom)
            * (paired.difference_errors[index, larger])
        )
        gains = paired.log_throughput[larger] - paired.log_throughput[index]
        if not np.any(gains - margins > _TOLERANCE):
            return index
    return last


def _find_first_sure(paired: PairedSizes, rise: Rise | None) -> int | None:
    """Return the index of the smallest size that surely no larger batch beats, None without one.

    Without a rise (throughput falls at the end) only the measured sizes are compared.
    """
    quantile = two_sided_t(CONFIDENCE, paired.degrees_of_freedom)
    for index in range(len(paired.sizes)):
        larger = slice(index, None)
        gains = paired.log_throughput[larger] - paired.log_throughput[index]
        most = float(np.max(gains + quantile * paired.difference_errors[index, larger]))
        if rise is not None:
            contrast = rise.gradient.copy()
            contrast[-1] += 1.0
            contrast[index] -= 1.0
            error = compute_contrast_error(paired, contrast)
            most = max(most, float(gains[-1]) + rise.log_gain + quantile * error)
        if most <= _TOLERANCE:
            return index
    return None


def _fit_laws(paired: PairedSizes) -> tuple[StepLaw, ...]:
    """Return the laws that the sizes allow."""
    step_s = np.asarray(paired.sizes) / np.exp(paired.log_throughput)
    return fit_step_laws(
        paired.sizes,
        step_s.tolist(),
        errors=compute_level_errors(paired),
        degrees_of_freedom=paired.degrees_of_freedom,
    )


def _explain_fall(paired: PairedSizes, laws: Sequence[StepLaw]) -> bool:
    """Return whether stairs, of which several were seen, explain that throughput falls."""
    return any(law.kind == "stairs" and law.tile * 3 <= paired.sizes[-1] for law in laws)


def _find_choice_by_law(paired: PairedSizes, law: StepLaw) -> int | None:
    """Return the index of the smallest size within the tolerance of the law's best, None without.

    The law's own levels are compared: noise that moves one size alone moves no answer.
    """
    sizes = np.asarray(paired.sizes, dtype=np.float64)
    levels = np.log(sizes / evaluate_step_law(law, sizes))
    within = np.flatnonzero(levels >= math.log(compute_best_per_s(law)) - _TOLERANCE)
    return int(within[0]) if within.size else None


def _find_choice(paired: PairedSizes, rise: Rise | None, peak: int) -> int | None:
    """Return the index of the smallest size within the tolerance of the best, None without one.

    The best is that of the levels smoothed upwards, so that the luckiest of many sizes does not set
    it, plus the rise beyond the sizes. The sizes themselves are not smoothed: stairs are real.
    """
    levels = paired.log_throughput[: peak + 1]
    best = float(smooth_upwards(levels, paired.sessions[: peak + 1])[-1])
    beyond = 0.0 if rise is None else max(rise.log_gain, 0.0)
    within = np.flatnonzero(levels >= best + beyond - _TOLERANCE)
    return int(within[0]) if within.size else None


def _is_too_noisy(paired: PairedSizes) -> bool:
    quantile = two_sided_t(CONFIDENCE, paired.degrees_of_freedom)
    typical = float(np.median(paired.difference_errors[np.triu_indices(len(paired.sizes), 1)]))
    return quantile * typical > TOO_NOISY_FRACTION


def _predict_needed_size(rise: Rise | None, laws: Sequence[StepLaw]) -> int | None:
    if laws:
        return math.ceil(predict_law_saturation(laws[0], SATURATION_TOLERANCE_FRACTION) - 1e-9)
    if rise is None or rise.law is None:
        return None
    return math.ceil(predict_law_saturation(rise.law, SATURATION_TOLERANCE_FRACTION) - 1e-9)
