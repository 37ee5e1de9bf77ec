"""How many sessions and rounds the time allows, and whether another session is worth its time."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from advisor.statistics import two_sided_t
from advisor.throughput.data import ThroughputConclusion
from advisor.throughput.saturation import SATURATION_TOLERANCE_FRACTION
from advisor.throughput.sizes import thin
from advisor.throughput.step_time import StepTimes, estimate_step_s

#: Sessions (processes) wanted: below three an interval is several times wider.
WANTED_SESSIONS = 3
#: Most timed blocks of one size in a session; more only repeat what the session's median knows.
_MOST_ROUNDS = 5
#: Steps at each size before a block, so that caches re-fill; one where a step outlasts a block.
_SETTLING_STEPS = 2
#: A block of forward and backward alone follows each block, half as long.
_BLOCKS_PER_ROUND = 1.5
#: Warm-up windows of a quarter block that a size usually takes in its first round.
_WARMUP_BLOCKS = 0.75
#: Half-width of the decisive throughput's interval, as a share of it, at which it is known well
#: enough: a tenth of the differences that decide between two batches.
WANTED_HALF_WIDTH_FRACTION = 0.01
#: The same at which sizes can be told apart that differ by the tolerance of the saturation batch.
TELLING_HALF_WIDTH_FRACTION = SATURATION_TOLERANCE_FRACTION / 2.0
#: Sessions that settle where the curve ends, or never will on a machine this restless.
_MOST_UNSETTLED_SESSIONS = 6
#: No interval needs more.
_MOST_SESSIONS = 1000


class SessionPlan(NamedTuple):
    """What the time allows: sizes to time in every session, and blocks of each size in each."""

    sizes: tuple[int, ...]
    sessions: int
    rounds: int


def plan_rounds(sizes: Sequence[int], times: StepTimes, block_s: float, budget_s: float) -> int:
    """Return how many rounds of one session fit the budget, its start not included: 0 to 5.

    Raises:
        ValueError: No step time is known.
    """
    steps = [step_s for size in sizes if (step_s := estimate_step_s(times, size)) is not None]
    if len(steps) < len(sizes):
        raise ValueError("no step time is known")
    if not steps:
        return 0
    round_s = sum(
        (_SETTLING_STEPS if step_s < block_s else 1) * step_s
        + _BLOCKS_PER_ROUND * max(step_s, block_s)
        for step_s in steps
    )
    warmup_s = sum(_SETTLING_STEPS * step_s + _WARMUP_BLOCKS * block_s for step_s in steps)
    return max(0, min(_MOST_ROUNDS, int((budget_s - warmup_s) / round_s)))


def choose_session_plan(
    sizes: Sequence[int],
    times: StepTimes,
    *,
    block_s: float,
    session_start_s: float,
    budget_s: float,
    must_keep: Sequence[int] = (),
) -> SessionPlan | None:
    """Return the most telling plan that fits the budget, or None where nothing does.

    Sessions come first, up to three, for they alone give an interval; then rounds. Sizes are left
    out, every second one from the bottom up, only where not even two sessions of one round fit,
    but never the ends and those of `must_keep`; where that does not help, one session is planned.

    Raises:
        ValueError: No step time is known.
    """
    ordered = sorted(set(sizes))
    kept = {*ordered[:1], *ordered[-1:], *must_keep}.intersection(ordered)
    spare = [size for size in ordered if size not in kept]
    subsets = [tuple(sorted(kept.union(thin(spare, count)))) for count in range(len(spare), -1, -1)]
    attempts = [(sessions, subset) for sessions in (2, 1) for subset in subsets]
    for sessions, subset in [(WANTED_SESSIONS, subsets[0]), *attempts]:
        session_s = budget_s / sessions - session_start_s
        rounds = plan_rounds(subset, times, block_s, session_s)
        if rounds:
            return SessionPlan(subset, sessions, rounds)
    return None


def leave_out_largest(sizes: Sequence[int], *, kept: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes without the largest, the kept ones going last but for the smallest.

    Of the kept ones the first goes last.
    """
    ranks = {size: len(kept) - index for index, size in enumerate(kept)}
    left_out = min(sizes[1:] or sizes, key=lambda size: (ranks.get(size, 0), -size))
    return tuple(size for size in sizes if size != left_out)


def wants_session(throughput: ThroughputConclusion, *, sessions: int, affordable: int) -> bool:
    """Return whether one more session promises anything.

    It does while it is open where the curve ends, or the sessions differ so much that sizes cannot
    be told apart which differ by the tolerance, up to six sessions; and while the decisive
    throughput is not known to 1 %, if the sessions that the time allows can be expected to get it
    there.
    """
    if affordable < 1:
        return False
    saturation = throughput.saturation
    is_known = saturation.status != "inconclusive" or saturation.needed_batch_size is not None
    width = throughput.half_width_fraction
    width = math.inf if width is None else width
    can_tell = is_known and width <= TELLING_HALF_WIDTH_FRACTION
    if sessions < _MOST_UNSETTLED_SESSIONS and not can_tell:
        return True
    if width <= WANTED_HALF_WIDTH_FRACTION:
        return False
    needed = predict_sessions_needed(throughput.half_width_fraction, sessions)
    return needed is not None and needed <= sessions + affordable


def predict_sessions_needed(half_width_fraction: float | None, sessions: int) -> int | None:
    """Return how many sessions in all bring the half-width to 1 %; None where that is unknown.

    The sessions' spread is taken to stay as it is: the half-width is t·spread/√n.
    """
    if half_width_fraction is None or sessions < 2:
        return None
    spread = half_width_fraction * math.sqrt(sessions) / two_sided_t(0.95, sessions - 1)
    for count in range(sessions, _MOST_SESSIONS):
        if two_sided_t(0.95, count - 1) * spread / math.sqrt(count) <= WANTED_HALF_WIDTH_FRACTION:
            return count
    return None
