"""How fast each session was as a whole, and whether the sessions fall into two groups."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from advisor.memory.data import Probe
from advisor.statistics import median

#: How much longer the slow group's steps take, as a share, from which on it is named: the tolerance
#: of the answer. Published cases are 11 to 14 %.
GROUP_GAP_FRACTION = 0.05
#: Fewest sessions of a group: one that is slow on its own is no second speed.
LEAST_GROUP_SESSIONS = 2
#: Scatter between the groups over the scatter within them that chance exceeds in 2 % of cases, by
#: the number of sessions, where their speeds scatter normally about one speed; simulated with
#: 200,000 draws each.
_CHANCE_RATIOS: dict[int, float] = {
    4: 75.7,
    5: 35.0,
    6: 20.9,
    7: 14.6,
    8: 11.5,
    9: 9.5,
    10: 8.2,
    11: 7.3,
    12: 6.6,
    13: 6.2,
    14: 5.7,
    15: 5.4,
    16: 5.1,
    17: 4.9,
    18: 4.7,
    19: 4.6,
    20: 4.4,
}
#: Rounds of the median polish: the last ones move no level by as much as 0.1 %.
_POLISH_ROUNDS = 10


class TwoGroups(NamedTuple):
    """Sessions in two groups.

    Attributes:
        gap_fraction: How much longer the slow group's steps take.
    """

    fast: int
    slow: int
    gap_fraction: float


def measure_session_levels(probes: Sequence[Probe]) -> tuple[float, ...]:
    """Return how much longer each session's steps took than usual, on the log scale, by session.

    Of each size the fastest block of a session counts: what comes and goes only makes blocks
    slower, so the fastest shows best what the whole session had in common. Sizes that some sessions
    did not time, or whose blocks were discarded there, are compared between the others.

    Args:
        probes: Of throughput, those that count.

    Source: median polish, Tukey 1977.
    """
    fastest: dict[int, dict[int, float]] = {}
    for probe in probes:
        if probe.step_times_s:
            sizes = fastest.setdefault(probe.session, {})
            level = math.log(min(probe.step_times_s))
            size = probe.micro_batch_size
            sizes[size] = min(level, sizes.get(size, level))
    return tuple(_polish(dict(sorted(fastest.items()))).values())


def _polish(logs: Mapping[int, Mapping[int, float]]) -> dict[int, float]:
    """Return the session effects of a table of sessions and sizes, their median taken off."""
    effects = dict.fromkeys(logs, 0.0)
    for _ in range(_POLISH_ROUNDS if logs else 0):
        by_size: dict[int, list[float]] = {}
        for session, sizes in logs.items():
            for size, level in sizes.items():
                by_size.setdefault(size, []).append(level - effects[session])
        usual = {size: median(levels) for size, levels in by_size.items()}
        effects = {
            session: median([level - usual[size] for size, level in sizes.items()])
            for session, sizes in logs.items()
        }
    middle = median(list(effects.values())) if effects else 0.0
    return {session: effect - middle for session, effect in effects.items()}


def find_two_groups(levels: Sequence[float]) -> TwoGroups | None:
    """Return the two groups that the sessions fall into, None where one speed explains them.

    The split is the one with the largest scatter between the groups over that within them, and it
    must exceed what chance makes of one speed.

    Args:
        levels: How fast each session was, in log seconds.

    Source: derived; the ratio is that of Engelman and Hartigan 1969 (percentage points of a test
    for clusters).
    """
    ordered = sorted(levels)
    ends = range(LEAST_GROUP_SESSIONS, len(ordered) - LEAST_GROUP_SESSIONS + 1)
    splits = [(ordered[:end], ordered[end:]) for end in ends]
    if not splits:
        return None
    within = [_scatter(fast) + _scatter(slow) for fast, slow in splits]
    best = min(range(len(splits)), key=within.__getitem__)
    fast, slow = splits[best]
    gap_fraction = math.expm1(sum(slow) / len(slow) - sum(fast) / len(fast))
    between = _scatter(ordered) - within[best]
    chance = _CHANCE_RATIOS[min(len(ordered), max(_CHANCE_RATIOS))]
    if gap_fraction <= GROUP_GAP_FRACTION or between <= chance * within[best]:
        return None
    return TwoGroups(len(fast), len(slow), gap_fraction)


def _scatter(values: Sequence[float]) -> float:
    """Return the sum of squared distances to the mean."""
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values)
