"""How fast each session was as a whole, and whether the sessions fall into two groups."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from advisor.memory.data import Probe
from advisor.statistics import median

#: How much longer the slow group's steps take, as a share, from which on it is named: the tolerance
#: of the answer. Published cases are 11 to 14 %.
GROUP_GAP_FRACTION = 0.05
#: Fewest sessions of a group: one that is slow on its own is no second speed.
LEAST_GROUP_SESSIONS = 2
#: Scatter between the groups over the scatter within them that chance exceeds in 2 % of cases, from
#: 4 sessions to 20, where their speeds scatter normally about one speed; simulated with 200,000
#: draws each.
_CHANCE_RATIOS = (
    75.7, 35.0, 20.9, 14.6, 11.5, 9.5, 8.2, 7.3, 6.6, 6.2, 5.7, 5.4, 5.1, 4.9, 4.7, 4.6, 4.4,
)  # fmt: skip
#: Rounds of the median polish: the last ones move no level by as much as 0.1 %.
_POLISH_ROUNDS = 10


class TwoGroups(NamedTuple):
    """Sessions in two groups, and how much longer the slow group's steps take."""

    fast: int
    slow: int
    gap_fraction: float


def measure_session_levels(probes: Sequence[Probe]) -> tuple[float, ...]:
    """Return how much longer each session's steps took than usual, on the log scale, by session.

    Of each size the fastest block of a session counts: what comes and goes only slows blocks.

    Source: median polish, Tukey 1977.
    """
    logs = defaultdict[int, dict[int, float]](dict)
    for probe in probes:
        if probe.step_times_s:
            level, size = math.log(min(probe.step_times_s)), probe.micro_batch_size
            logs[probe.session][size] = min(level, logs[probe.session].get(size, level))
    effects = dict.fromkeys(sorted(logs), 0.0)
    for _ in range(_POLISH_ROUNDS):
        levels = defaultdict[int, list[float]](list)
        for session, sizes in logs.items():
            for size, level in sizes.items():
                levels[size].append(level - effects[session])
        usual = {size: median(each) for size, each in levels.items()}
        effects = {
            session: median([level - usual[size] for size, level in logs[session].items()])
            for session in effects
        }
    middle = median(list(effects.values())) if effects else 0.0
    return tuple(effect - middle for effect in effects.values())


def find_two_groups(levels: Sequence[float]) -> TwoGroups | None:
    """Return the two groups that the sessions fall into, None where one speed explains them.

    Source: Engelman and Hartigan 1969, for the scatter between the groups over that within them.
    """
    ordered = sorted(levels)
    ends = range(LEAST_GROUP_SESSIONS, len(ordered) - LEAST_GROUP_SESSIONS + 1)
    if not ends:
        return None
    within, end = min((_scatter(ordered[:end]) + _scatter(ordered[end:]), end) for end in ends)
    fast, slow = ordered[:end], ordered[end:]
    gap_fraction = math.expm1(sum(slow) / len(slow) - sum(fast) / len(fast))
    chance = _CHANCE_RATIOS[min(len(ordered) - 4, len(_CHANCE_RATIOS) - 1)]
    is_chance = _scatter(ordered) - within <= chance * within
    if gap_fraction <= GROUP_GAP_FRACTION or is_chance:
        return None
    return TwoGroups(len(fast), len(slow), gap_fraction)


def _scatter(values: Sequence[float]) -> float:
    """Return the sum of squared distances to the mean."""
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values)
