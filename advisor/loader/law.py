"""Seconds of loading as a law of the micro-batch, and what of them runs beside the step.

    ℓ(m) = fixed + per_sample·m        t = c + ℓ − h(m)·min(c, ℓ)

Without workers loading and stepping alternate (h = 0), with workers the slower of them counts
(h = 1). h is measured: workers take processors, batches are handed over, and a GPU works on while
the next batch loads. Between the sizes that were timed it is linear in the log of m.
"""

import math
import statistics
from bisect import bisect
from collections.abc import Sequence
from typing import NamedTuple

from advisor.loader.data import LoaderTiming
from advisor.statistics import median

#: What is known of h before it is measured: its standard deviation.
_PRIOR_SD = 0.5
#: Relative error of a step that no window shows.
_LEAST_ERROR = 0.02


class Law(NamedTuple):
    """See the module; the fields are those of `LoaderConclusion`."""

    law_sizes: tuple[int, ...] = ()
    fixed_s: float = 0.0
    per_sample_s: float = 0.0
    hidden_fractions: tuple[float, ...] = ()
    log_error: float = 0.0


def fit_law(timings: Sequence[LoaderTiming]) -> Law:
    """Return the law of the loader as it is; of nothing where no window was timed.

    Args:
        timings: With one number of workers, one for each size.
    """
    timed = [t for t in timings if t.alone_samples_per_s and t.together_samples_per_s]
    if not timed:
        return Law()
    timed.sort(key=lambda timing: timing.micro_batch_size)
    sizes = tuple(timing.micro_batch_size for timing in timed)
    loads_s, hidden, errors = zip(*map(_fit_size, timed), strict=True)
    fixed_s, per_sample_s = _fit_line(list(zip(sizes, loads_s, strict=True)))
    log_error = math.sqrt(statistics.fmean(error**2 for error in errors))
    return Law(sizes, fixed_s, per_sample_s, hidden, log_error)


def combine(step_s: float, load_s: float, hidden_fraction: float) -> float:
    """Return the seconds of a step and its loading, of which a part runs beside the other."""
    return step_s + load_s - hidden_fraction * min(step_s, load_s)


def interpolate(size: int, sizes: Sequence[int], values: Sequence[float]) -> float:
    """Return the value at this size, linear in its log; that of the nearest end outside."""
    if size <= sizes[0] or size >= sizes[-1]:
        return values[0 if size <= sizes[0] else -1]
    right = bisect(sizes, size)
    left = right - 1
    share = math.log(size / sizes[left]) / math.log(sizes[right] / sizes[left])
    return values[left] + share * (values[right] - values[left])


def _fit_size(timing: LoaderTiming) -> tuple[float, float, float]:
    """Return ℓ and h at this size, and the standard error of the log of the time they give."""
    size = timing.micro_batch_size
    moving_s = median(timing.moving_s) if timing.moving_s else 0.0
    step_s = max(0.0, size / median(timing.training_samples_per_s) - moving_s)
    load_s = size / median(timing.alone_samples_per_s) + moving_s
    together_s = size / median(timing.together_samples_per_s)
    spreads = (_find_log_error(timing.training_samples_per_s), _LEAST_ERROR)
    error = math.hypot(*spreads, _find_log_error(timing.together_samples_per_s))
    prior = 1.0 if timing.workers else 0.0
    # Least squares in shares of the time together, drawn to the prior where it tells little.
    least = min(step_s, load_s) / together_s
    seen = (step_s + load_s) / together_s - 1.0
    weight = (_PRIOR_SD / error) ** 2
    hidden = (prior + weight * least * seen) / (1.0 + weight * least**2)
    hidden = min(1.0, max(-1.0, hidden))
    misfit = math.log(together_s / combine(step_s, load_s, hidden))
    return load_s, hidden, math.hypot(misfit, error)


def _find_log_error(rates: Sequence[float]) -> float:
    """Return the standard error of the mean of their logs; 0 of one."""
    if len(rates) < 2:
        return 0.0
    return statistics.stdev(map(math.log, rates)) / math.sqrt(len(rates))


def _fit_line(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Return fixed and per_sample, neither below zero, of the line through the ends."""
    (small, small_s), (large, large_s) = min(points), max(points)
    if small == large:
        return 0.0, small_s / small
    per_sample_s = (large_s - small_s) / (large - small)
    fixed_s = small_s - per_sample_s * small
    if per_sample_s < 0.0:
        return math.sqrt(small_s * large_s), 0.0
    if fixed_s < 0.0:
        return 0.0, math.sqrt(small_s / small * (large_s / large))
    return fixed_s, per_sample_s
