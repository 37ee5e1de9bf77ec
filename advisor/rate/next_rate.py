"""Which learning rate the trial runs next: pure, rates tried in, next rate out.

rate   η/2   η/√2   η   √2η   2η          η is the rule's rate, mostly tried first
                    1    2     3          it passes: climb while the loss gets lower
        3      2    1                     it fails: step down until one passes, and once more
"""

import math
from collections.abc import Sequence

import msgspec

#: Each rate over the next lower one: fine enough that the best rate is missed by 19 % at most.
RATE_STEP = math.sqrt(2.0)
#: Most steps to either side of the proposed rate: a factor of 5.7 down, of 16 up. Each step up is
#: taken for a gain alone, and shortens what is trained next.
MOST_STEPS_DOWN, MOST_STEPS_UP = 5, 8
#: Rates closer than this, relatively, are one rate.
_SAME = 1e-9


class TriedRate(msgspec.Struct, frozen=True, kw_only=True):
    """A rate that the trial ran.

    Attributes:
        rank: Where it passed, orders it among the others, the best first.
    """

    rate: float
    passed: bool
    rank: tuple[float, ...] = ()


def choose_next_rate(
    proposed: float, base_rate: float, tried: Sequence[TriedRate], *, start: float | None = None
) -> float | None:
    """Return the rate to try next: the one to start at, then its neighbours towards the best.

    While none passed the rate goes down. Where the rule raised the base rate, the base rate itself
    is the last one tried: a larger batch that does not even train at the rate of a smaller one is
    not helped by less. Once rates passed, the neighbours of the best of them are tried, the higher
    one first unless a rate as low already failed.

    Args:
        proposed: The rule's rate, above 0.
        base_rate: The user's rate, above 0.
        tried: The rates tried so far.
        start: Tried first; a few steps off the proposed rate. None begins with that one.

    Returns:
        None once the best rate's neighbours were tried, or once there is no lower one.
    """
    ladder = _build_ladder(proposed, base_rate)
    places = {_find_place(ladder, each.rate): each for each in tried}
    first = _find_place(ladder, proposed if start is None else start)
    if first not in places:
        return ladder[first]
    passed = [place for place, each in places.items() if each.passed]
    if not passed:
        lower = min(places) - 1
        return ladder[lower] if lower >= 0 else None
    best = min(passed, key=lambda place: (places[place].rank, abs(place - first)))
    refused = min((place for place in places if place not in passed), default=len(ladder))
    for place in (best + 1, best - 1):
        if 0 <= place < min(len(ladder), refused) and place not in places:
            return ladder[place]
    return None


def _build_ladder(proposed: float, base_rate: float) -> list[float]:
    """Return the rates that may be tried, ascending."""
    down = [proposed / RATE_STEP**step for step in range(1, MOST_STEPS_DOWN + 1)]
    up = [proposed * RATE_STEP**step for step in range(1, MOST_STEPS_UP + 1)]
    if proposed > base_rate * (1.0 + _SAME):
        above = [rate for rate in down if rate > base_rate * (1.0 + _SAME)]
        down = [*above, base_rate][:MOST_STEPS_DOWN]
    return [*reversed(down), proposed, *up]


def _find_place(ladder: Sequence[float], rate: float) -> int:
    """Return the index of the rate, which was stored and read again."""
    return min(range(len(ladder)), key=lambda place: abs(math.log(ladder[place] / rate)))
