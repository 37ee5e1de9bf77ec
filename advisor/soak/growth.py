"""Whether memory rises over the steps of a training run, and how fast.

A leak adds memory all along. Other things add memory too, and stop: the optimizer's state and the
kernels' workspaces in the first steps, a single jump when something first runs, a cache until it is
full, a cache that is emptied now and then. So the rise must be there from one stretch of the run to
the next, all along, and not die out.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from advisor.statistics import Estimate

Floats = npt.NDArray[np.float64]

#: Steps at the start that do not count: they create optimizer state, workspaces and caches.
SETTLING_STEPS = 4
#: Stretches that the rest is cut into; their lowest points must rise every time. Independent noise
#: orders six of them by chance once in 6! = 720 times, and fewer than five jumps never do.
STRETCHES = 6
#: Steps of a stretch: with one there would be no lowest point.
LEAST_STRETCH_STEPS = 2
#: Steps below which nothing is said of growth.
LEAST_STEPS = SETTLING_STEPS + STRETCHES * LEAST_STRETCH_STEPS
#: Rise over the run below which it is the granularity of heap and allocator.
LEAST_RISE_BYTES = 1 << 18
#: Share of the mean rise that every stretch must have: less is noise after a jump, or dying out.
LASTING_FRACTION = 1 / 3
#: Two-sided normal quantile of 95 % confidence.
_QUANTILE = 1.959964


def fit_growth(held_bytes: Sequence[int]) -> Estimate | None:
    """Return the bytes that each step leaves taken for good, None where memory does not rise.

    The slope is the median over all pairs of steps, its interval by the ranks of those slopes. It
    counts as growth where that interval is above zero, where the lowest points of equal stretches
    of the run rise every time, by `LEAST_RISE_BYTES` together, and each time by at least a third of
    the mean.

    Args:
        held_bytes: Memory taken after each step, from the first step on. Fewer than `LEAST_STEPS`
            of them tell nothing.

    Source: Theil 1950 and Sen 1968 for slope and interval; the conditions are derived.
    """
    if len(held_bytes) < LEAST_STEPS:
        return None
    values = np.asarray(held_bytes[SETTLING_STEPS:], dtype=np.float64)
    if not _rises_throughout(values):
        return None
    slope = _estimate_slope(values)
    assert slope.low is not None
    return slope if slope.low > 0.0 else None


def _rises_throughout(values: Floats) -> bool:
    floors = np.array([stretch.min() for stretch in np.array_split(values, STRETCHES)])
    rises = np.diff(floors)
    is_enough = rises.sum() >= LEAST_RISE_BYTES
    return bool(is_enough and rises.min() >= LASTING_FRACTION * rises.mean())


def _estimate_slope(values: Floats) -> Estimate:
    count = len(values)
    later, earlier = np.triu_indices(count, k=1)[::-1]
    slopes = np.sort((values[later] - values[earlier]) / (later - earlier))
    # Half the width, in ranks, of the interval for Kendall's score under no trend.
    spread = _QUANTILE * math.sqrt(count * (count - 1) * (2 * count + 5) / 18.0)
    low = max(0, math.floor((len(slopes) - spread) / 2.0))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2.0))
    return Estimate(float(np.median(slopes)), float(slopes[low]), float(slopes[high]))
