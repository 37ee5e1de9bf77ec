"""How many sessions and rounds the time allows."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from advisor.memory.data import Probe
from advisor.throughput.sizes import thin
from advisor.throughput.step_time import StepTimes, estimate_step_s

#: Sessions (processes) wanted: below three an interval is several times wider.
WANTED_SESSIONS = 3
#: Most timed blocks of one size in a session: another session tells more than another block.
_MOST_ROUNDS = 2
#: Steps at each size before a block, so that caches re-fill; one where a step outlasts a block.
_SETTLING_STEPS = 2
#: A block of forward and backward alone follows each block, half as long.
_BLOCKS_PER_ROUND = 1.5
#: Warm-up windows of a quarter block that a size usually takes in its first round.
_WARMUP_BLOCKS = 0.75


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
    """Return the sizes without the largest; the smallest goes next to last, then the kept ones.

    Of the kept ones the first goes last.
    """
    ranks = {sizes[0]: 1, **{size: 1 + len(kept) - index for index, size in enumerate(kept)}}
    left_out = min(sizes, key=lambda size: (ranks.get(size, 0), -size))
    return tuple(size for size in sizes if size != left_out)


def merge_ranks(results: Mapping[int, Sequence[Probe]]) -> list[Probe]:
    """Return the first rank's probe, with the time of a step of each rank alone."""
    probes = [each[0] for _, each in sorted(results.items()) if each]
    failed = next((probe for probe in probes if probe.outcome != "fit"), None)
    alone_s = tuple(each for probe in probes for each in probe.rank_step_times_s)
    return [failed or replace(probes[0], rank_step_times_s=alone_s)]
