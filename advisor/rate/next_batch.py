"""Which batch the trial tries rates at next: pure, times to the target loss in, next batch out.

The trial starts at the batch that noise and speed lead to and goes to the neighbour of the best
batch so far, twice or half its size, for as long as one can be faster at all. A larger batch saves
steps at most in proportion, a smaller one none:

    least time(B') = time(B) · t(B')/t(B) · min(1, B/B')        t: seconds of a step

So no larger batch is tried where speed is saturated, and no smaller one where a step takes as long.
"""

import math
from collections.abc import Mapping

from advisor.noise.data import NEAR_OPTIMUM_FRACTION

#: Least distance of neighbours: nearer ones differ in time by less than a trial can tell.
_LEAST_DISTANCE = math.log(1.4)


def choose_next_batch(
    step_s: Mapping[int, float],
    start: int,
    tried: Mapping[int, float | None],
    base: tuple[int, float] | None = None,
) -> int | None:
    """Return the batch to try next; None where no other one can be faster by the tolerance.

    Args:
        step_s: Seconds of a step at each batch that there is.
        start: The batch to begin with.
        tried: Seconds to the target loss at the best rate of each batch tried; None where none of
            its rates passed.
        base: The user's own batch and its time, where it is not among those tried.

    Source: derived.
    """
    if start not in tried:
        return start
    known = {size: time_s for size, time_s in tried.items() if time_s is not None}
    if not known:
        return _find_neighbour(step_s, min(tried), 0.5)
    if base is not None and base[0] in step_s:
        known.setdefault(*base)
    best = min(known, key=lambda size: (known[size], size))
    options = []
    for factor in (2.0, 0.5):
        size = _find_neighbour(step_s, best, factor)
        if size is None or size in tried:
            continue
        least_s = known[best] * step_s[size] / step_s[best] * min(1.0, best / size)
        if least_s < (1.0 - NEAR_OPTIMUM_FRACTION) * known[best]:
            options.append((least_s, size))
    return min(options)[1] if options else None


def _find_neighbour(step_s: Mapping[int, float], size: int, factor: float) -> int | None:
    """Return the batch nearest to a multiple, of those on its side that are not too close."""
    side = [
        other
        for other in step_s
        if math.log(other / size) * math.copysign(1.0, factor - 1.0) >= _LEAST_DISTANCE
    ]
    return min(
        side, key=lambda other: (abs(math.log(other / (size * factor))), other), default=None
    )
