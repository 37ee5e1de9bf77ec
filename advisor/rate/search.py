"""Which batch and which rate the trial runs next: what was tried in, the next one out.

At each batch, with the rule's rate η, mostly tried first:

    rate   η/2   η/√2   η   √2η   2η
                        1    2     3          it passes: climb while the loss gets lower
            3      2    1                     it fails: step down until one passes, and once more
"""

import math
from collections.abc import Mapping

from advisor.noise.data import NEAR_OPTIMUM_FRACTION

#: Each rate over the next lower one: fine enough that the best rate is missed by 19 % at most.
RATE_STEP = math.sqrt(2.0)
#: Most steps to either side of the proposed rate: a factor of 5.7 down, of 16 up. Each step up is
#: taken for a gain alone, and shortens what is trained next.
MOST_STEPS_DOWN, MOST_STEPS_UP = 5, 8
#: The base rate is no step of its own within this, relatively.
_SAME = 1e-9
#: Least distance of neighbouring batches: nearer ones differ in time by less than a trial can tell.
_LEAST_DISTANCE = math.log(1.4)


def choose_next_rate(
    proposed: float,
    base_rate: float,
    tried: Mapping[float, tuple[float, ...] | None],
    *,
    start: float | None = None,
) -> float | None:
    """Return the rate to try next: the one to start at, then its neighbours towards the best.

    None once the best rate's neighbours were tried, or once there is no lower one. Where the rule
    raised the base rate, the base rate itself is the last one tried: a larger batch that does not
    even train at the rate of a smaller one is not helped by less.

    Args:
        proposed: The rule's rate.
        base_rate: The user's.
        tried: What orders the rates tried so far, the best first; None for one that failed.
        start: Tried first; a few steps off the proposed rate, which is its default.
    """
    ladder = _build_ladder(proposed, base_rate)
    places = {_find_place(ladder, rate): rank for rate, rank in tried.items()}
    first = _find_place(ladder, proposed if start is None else start)
    if first not in places:
        return ladder[first]
    passed = {place: rank for place, rank in places.items() if rank is not None}
    if not passed:
        lower = min(places) - 1
        return ladder[lower] if lower >= 0 else None
    best = min(passed, key=lambda place: (passed[place], abs(place - first)))
    refused = min(places.keys() - passed.keys(), default=len(ladder))
    for place in (best + 1, best - 1):
        if 0 <= place < refused and place not in places:
            return ladder[place]
    return None


def _build_ladder(proposed: float, base_rate: float) -> list[float]:
    """Return the rates that may be tried, ascending."""
    down = [proposed / RATE_STEP**step for step in range(1, MOST_STEPS_DOWN + 1)]
    up = [proposed * RATE_STEP**step for step in range(1, MOST_STEPS_UP + 1)]
    least = base_rate * (1.0 + _SAME)
    if proposed > least:
        down = [*(rate for rate in down if rate > least), base_rate][:MOST_STEPS_DOWN]
    return [*reversed(down), proposed, *up]


def _find_place(ladder: list[float], rate: float) -> int:
    """Return the index of the rate, which was stored and read again."""
    return min(range(len(ladder)), key=lambda place: abs(math.log(ladder[place] / rate)))


def choose_next_batch(
    step_s: Mapping[int, float],
    start: int,
    tried: Mapping[int, float | None],
    base: tuple[int, float] | None = None,
) -> int | None:
    """Return the batch to try next; None where no other one can be faster by the tolerance.

    A larger batch saves steps at most in proportion, a smaller one none. So none larger is tried
    where speed is saturated, and none smaller where a step takes as long.

    Args:
        step_s: Seconds of a step at each batch that there is.
        start: The batch to begin with.
        tried: Seconds to the target loss at the best rate of each batch tried; None where none of
            its rates passed.
        base: The user's own batch and its time, where it is not among those tried.
    """
    if start not in tried:
        return start
    known = {size: time_s for size, time_s in tried.items() if time_s is not None}
    if not known:
        return _find_neighbour(step_s, min(tried), 0.5)
    if base is not None and base[0] in step_s:
        known.setdefault(*base)
    best = min(known, key=lambda size: (known[size], size))
    sizes = (_find_neighbour(step_s, best, factor) for factor in (2.0, 0.5))
    least_s = {
        size: known[best] * step_s[size] / step_s[best] * min(1.0, best / size)
        for size in sizes
        if size is not None and size not in tried
    }
    next_size = min(least_s, key=lambda size: (least_s[size], size), default=None)
    if next_size is None or least_s[next_size] >= (1.0 - NEAR_OPTIMUM_FRACTION) * known[best]:
        return None
    return next_size


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
