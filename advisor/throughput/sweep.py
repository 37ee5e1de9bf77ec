"""Which micro-batch sizes to time, and in how many sessions."""

import itertools
from collections.abc import Sequence

import msgspec

from advisor.throughput.refinement import REFINING_SESSIONS, choose_refinement, is_apart
from advisor.throughput.step_time import StepTimes, estimate_step_s

__all__ = [
    "REFINING_SESSIONS",
    "SessionPlan",
    "choose_refinement",
    "choose_session_plan",
    "choose_sweep",
    "plan_rounds",
]

#: Most sizes of a first sweep. Ten cover a range of 500 at one size for each doubling, and every
#: further size costs a block in every session.
MOST_SWEEP_SIZES = 10
#: Neighbours nearer than this ratio say nothing new: their throughputs differ by about 1 % where
#: the curve saturates.
_LEAST_RATIO = 1.2
#: Sessions (processes) wanted: below three an interval is several times wider.
_WANTED_SESSIONS = 3
#: Most timed blocks of one size in a session; more only repeat what the session's median knows.
_MOST_ROUNDS = 5
#: Steps at each size before a block, so that caches re-fill; one where a step outlasts a block.
_SETTLING_STEPS = 2
#: A block of forward and backward alone follows each block, half as long.
_BLOCKS_PER_ROUND = 1.5
#: Warm-up windows of a quarter block that a size usually takes in its first round.
_WARMUP_BLOCKS = 0.75


class SessionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the time allows.

    Attributes:
        sizes: Micro-batch sizes to time in every session.
        sessions: Worker processes, one after the other.
        rounds: Timed blocks of each size in each session.
    """

    sizes: tuple[int, ...]
    sessions: int
    rounds: int


def choose_sweep(
    *,
    min_micro_batch_size: int,
    max_micro_batch_size: int,
    batch_multiple: int = 1,
    base_batch_size: int | None = None,
    given_micro_batch_size: int | None = None,
    most_sizes: int = MOST_SWEEP_SIZES,
) -> tuple[int, ...]:
    """Return the first sizes to time, ascending: about one for each doubling, at most ten.

    The smallest and the largest feasible size and, if feasible, the base batch size and the given
    size are always in. Where the range holds more doublings than that, every second one is left out
    from the bottom up: saturation mostly lies in the upper half, and a refinement closes a gap that
    it falls in.

    Args:
        min_micro_batch_size: The smallest size the model runs at, in samples.
        max_micro_batch_size: The largest size that fits, in samples.
        batch_multiple: Only multiples of this are feasible.
        base_batch_size: The user's batch size; None where unknown.
        given_micro_batch_size: The one of which a given batch is to be made; None where none is.
        most_sizes: Fewer than ten where a size costs much, as one that must be compiled does.

    Returns:
        Empty where no multiple lies in the range.
    """
    smallest = -(-max(min_micro_batch_size, 1) // batch_multiple) * batch_multiple
    largest = max_micro_batch_size // batch_multiple * batch_multiple
    if smallest > largest:
        return ()
    kept = {smallest, largest}
    for size in (base_batch_size, given_micro_batch_size):
        if size is not None and _is_feasible(size, smallest, largest, batch_multiple):
            kept.add(size)
    doublings = (batch_multiple * 2**power for power in itertools.count())
    inside = itertools.takewhile(lambda size: size < largest, doublings)
    grid = [size for size in inside if size > smallest and is_apart(size, kept, _LEAST_RATIO)]
    return tuple(sorted(kept.union(_thin(grid, most_sizes - len(kept)))))


def plan_rounds(sizes: Sequence[int], times: StepTimes, block_s: float, budget_s: float) -> int:
    """Return how many rounds of one session fit the budget: 0 to 5.

    Args:
        sizes: Micro-batch sizes to time.
        times: Seconds of a step, at least at one size.
        block_s: Least seconds of a block.
        budget_s: Seconds for the session, its start not included.

    Raises:
        ValueError: No step time is known.
    """
    if not sizes:
        return 0
    steps = [step_s for size in sizes if (step_s := estimate_step_s(times, size)) is not None]
    if not steps:
        raise ValueError("no step time is known")
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
    out, every second one from the bottom up, only where not even two sessions of one round fit;
    and where that does not help, one session is planned.

    Args:
        sizes: Micro-batch sizes to time.
        times: Seconds of a step, at least at one size.
        block_s: Least seconds of a block.
        session_start_s: Seconds until a worker process is ready.
        budget_s: Seconds for all sessions together.
        must_keep: Sizes never left out, besides the smallest and the largest.

    Raises:
        ValueError: No step time is known.
    """
    ordered = sorted(set(sizes))
    if not ordered:
        return None
    kept = {ordered[0], ordered[-1], *must_keep}.intersection(ordered)
    spare = [size for size in ordered if size not in kept]
    subsets = [
        tuple(sorted(kept.union(_thin(spare, count)))) for count in range(len(spare), -1, -1)
    ]
    candidates = [
        (_WANTED_SESSIONS, subsets[0]),
        *((sessions, subset) for sessions in (2, 1) for subset in subsets),
    ]
    for sessions, subset in candidates:
        session_s = budget_s / sessions - session_start_s
        rounds = plan_rounds(subset, times, block_s, session_s)
        if rounds:
            return SessionPlan(sizes=subset, sessions=sessions, rounds=rounds)
    return None


def _is_feasible(size: int, smallest: int, largest: int, batch_multiple: int) -> bool:
    return smallest <= size <= largest and size % batch_multiple == 0


def _thin(sizes: Sequence[int], most: int) -> list[int]:
    """Return at most `most` of the sizes: every second one goes, from the bottom up, then again."""
    left, index = list(sizes), 0
    while len(left) > max(most, 0):
        if index >= len(left):
            index = 0
        del left[index]
        index += 1
    return left
