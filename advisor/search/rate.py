"""Which learning rate the trial runs next: pure, rates tried in, next rate out."""

import math
from collections.abc import Sequence

#: Each rate over the next lower one: fine enough that the best rate is missed by 19 % at most.
RATE_STEP = math.sqrt(2.0)
#: Most rates tried; the last is then a quarter of the second and 1/5.7 of the first.
MOST_RATES = 6
#: Rates closer than this, relatively, are one rate.
_SAME = 1e-9


def choose_next_rate(
    proposed: float, base_rate: float, tried: Sequence[tuple[float, bool]]
) -> float | None:
    """Return the rate to try next: the proposed one, then lower ones until one passes.

    Where the rule raised the base rate, the base rate itself is the last one tried: a larger batch
    that does not even train at the rate of a smaller one is not helped by less.

    Args:
        proposed: The rule's rate, above 0.
        base_rate: The user's rate, above 0.
        tried: The rates tried so far and whether each passed, in order.

    Returns:
        None once a rate passed, or once all were tried.
    """
    if any(passed for _, passed in tried):
        return None
    lowest = min((rate for rate, _ in tried), default=math.inf)
    ladder = _build_ladder(proposed, base_rate)
    return next((rate for rate in ladder if rate < lowest * (1.0 - _SAME)), None)


def _build_ladder(proposed: float, base_rate: float) -> list[float]:
    """Return the rates from the proposed one down."""
    ladder = [proposed / RATE_STEP**step for step in range(MOST_RATES)]
    if proposed <= base_rate * (1.0 + _SAME):
        return ladder
    above = [rate for rate in ladder if rate > base_rate * (1.0 + _SAME)]
    return [*above, base_rate][:MOST_RATES]
