"""Which micro-batch sizes to time, a first sweep, then those around the answer, and how often."""

import bisect
import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from advisor.memory.data import Probe
from advisor.throughput.data import ThroughputConclusion
from advisor.throughput.paired_sizes import find_half
from advisor.throughput.saturation import LEAST_SIZES, predict_saturation
from advisor.throughput.step_time import StepTimes, estimate_step_s

#: Most sizes of a first sweep: later sessions add those that the answer asks for.
MOST_SWEEP_SIZES = 8
#: Neighbours nearer than this ratio say nothing new: their throughputs differ by about 1 % where
#: the curve saturates.
_LEAST_RATIO = 1.2
#: The same of refined sizes, which lie where the answer does.
_LEAST_REFINED_RATIO = 1.1
#: The same where stairs were seen: a size a little beyond the end of a tread pays for the next one.
_LEAST_TREAD_RATIO = 1.02
#: A refined size is a multiple of this where its gap is wide enough for that: hardware computes in
#: tiles, and a size one above a tile would stand for the worst of its neighbourhood.
_TILE = 8
#: Times the saturation batch by the likeliest stairs at which one more tread is timed: near enough
#: to stand in for it where it turns out to fall short.
_BEYOND_RATIO = 1.3
#: Within this ratio of the interval a size may still become the answer.
_NEAR_RATIO = 2.0
#: After each of the first sessions, as many as this, a refinement is chosen: what a session says
#: about where a tread ends, the next one corrects. Where the law moves to another tread, whose end
#: was not timed, the answer would be a far larger size.
REFINING_SESSIONS = 5
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


def choose_sweep(
    *,
    min_micro_batch_size: int,
    max_micro_batch_size: int,
    batch_multiple: int = 1,
    base_batch_size: int | None = None,
    given_micro_batch_size: int | None = None,
    most_sizes: int = MOST_SWEEP_SIZES,
) -> tuple[int, ...]:
    """Return the first sizes to time, ascending: about one for each doubling, at most eight.

    The ends of the range, half of the largest and, if feasible, the base batch and the given size
    are always in. Of more doublings every second one is left out from the bottom up, as saturation
    mostly lies in the upper half.
    """
    smallest = -(-max(min_micro_batch_size, 1) // batch_multiple) * batch_multiple
    largest = max_micro_batch_size // batch_multiple * batch_multiple
    if smallest > largest:
        return ()
    half = math.ceil(largest / 2 / batch_multiple) * batch_multiple
    kept = {smallest, largest}
    for size in (base_batch_size, given_micro_batch_size, half):
        if size is not None and smallest <= size <= largest and size % batch_multiple == 0:
            kept.add(size)
    doublings = (batch_multiple * 2**power for power in itertools.count())
    inside = itertools.takewhile(lambda size: size < largest, doublings)
    grid = [size for size in inside if size > smallest and _is_apart(size, kept, _LEAST_RATIO)]
    return tuple(sorted(kept.union(thin(grid, most_sizes - len(kept)))))


def thin(sizes: Sequence[int], most: int) -> list[int]:
    """Return at most `most` of the sizes: every second one goes, from the bottom up, then again."""
    left, index = list(sizes), 0
    while len(left) > max(most, 0):
        index = index if index < len(left) else 0
        del left[index]
        index += 1
    return left


def choose_refinement(found: ThroughputConclusion, *, batch_multiple: int = 1) -> tuple[int, ...]:
    """Return at most three further sizes around the saturation batch, ascending.

    Where the times rise in stairs, they are the ends of treads that may reach saturation. Else two
    split the gap below the law's answer and one that above it. A curve that rises to its end needs
    none.
    """
    sizes, law = [point.micro_batch_size for point in found.points], found.step_law
    if law is None or len(sizes) < LEAST_SIZES:
        return ()
    answer = predict_saturation(law, sizes)
    if law.kind == "stairs":
        tile = law.parameter
        end = math.ceil(answer / tile - 1e-9) * tile
        ends = [end, math.ceil(_BEYOND_RATIO * answer / tile - 1e-9) * tile, end - tile]
        wanted = [math.floor(each) // batch_multiple * batch_multiple for each in ends]
        return _choose_apart(wanted, sizes, _LEAST_TREAD_RATIO)
    if 2 * answer > sizes[-1]:
        return ()
    index = bisect.bisect_left(sizes, answer)
    wanted = [] if index == 0 else _split_gap(sizes[index - 1], sizes[index], 2, batch_multiple)
    if index + 1 < len(sizes):
        wanted += _split_gap(sizes[index], sizes[index + 1], 1, batch_multiple)
    return _choose_apart(wanted, sizes, _LEAST_REFINED_RATIO)


def choose_next(
    found: ThroughputConclusion, *, session: int, kept: Collection[int], batch_multiple: int = 1
) -> tuple[int, ...]:
    """Return the sizes of the session after this one: those that may be the answer, and finer ones.

    The kept ones, the ends and half of the largest are always among them. Where sessions contradict
    each other in what the last doubling gains, its two sizes come first.
    """
    sizes, saturation = [point.micro_batch_size for point in found.points], found.saturation
    largest, half = sizes[-1], find_half(sizes)
    if saturation.status == "inconclusive" and saturation.last_gain is not None:
        return tuple(sorted({half, largest}.union(kept).intersection(sizes)))
    ends = {sizes[0], largest, half}
    near = largest if found.step_law is None else predict_saturation(found.step_law, sizes)
    low = min(saturation.low or near, near) / _NEAR_RATIO
    high = max(saturation.high or near, near) * _NEAR_RATIO
    chosen = {s for s in sizes if s in kept or s in ends or low <= s <= high}
    if session < REFINING_SESSIONS:
        chosen.update(choose_refinement(found, batch_multiple=batch_multiple))
    return tuple(sorted(chosen))


def _is_apart(size: int, others: Collection[int], least_ratio: float) -> bool:
    return all(max(size, other) >= least_ratio * min(size, other) for other in others)


def _choose_apart(
    wanted: Iterable[int], sizes: Sequence[int], least_ratio: float
) -> tuple[int, ...]:
    """Return those inside the sizes' range that are apart from all others, the first ones first."""
    chosen: set[int] = set()
    for size in wanted:
        if sizes[0] < size < sizes[-1] and _is_apart(size, {*sizes, *chosen}, least_ratio):
            chosen.add(size)
    return tuple(sorted(chosen))


def _split_gap(below: int, above: int, parts: int, batch_multiple: int) -> list[int]:
    """Return sizes between the two, at equal ratios, on tiles where there is room."""
    has_room = above - below >= 2 * (parts + 1) * _TILE * batch_multiple
    granularity = math.lcm(batch_multiple, _TILE) if has_room else batch_multiple
    ratio = (above / below) ** (1.0 / (parts + 1))
    exact = [below * ratio ** (part + 1) for part in range(parts)]
    return [round(size / granularity) * granularity for size in exact]


class SessionPlan(NamedTuple):
    """What the time allows: sizes to time in every session, and blocks of each size in each."""

    sizes: tuple[int, ...]
    sessions: int
    rounds: int
    #: Of a block.
    least_steps: int = 1


def plan_rounds(
    sizes: Sequence[int],
    times: StepTimes,
    block_s: float,
    budget_s: float,
    *,
    least_steps: int = 1,
) -> int:
    """Return how many rounds of one session fit the budget, its start not included: 0 to 2.

    Raises ValueError where no step time is known.
    """
    steps = [step_s for size in sizes if (step_s := estimate_step_s(times, size)) is not None]
    if len(steps) < len(sizes):
        raise ValueError("no step time is known")
    if not steps:
        return 0
    round_s = sum(
        (_SETTLING_STEPS if step_s < block_s else 1) * step_s
        + _BLOCKS_PER_ROUND * max(least_steps * step_s, block_s)
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
    wanted_steps: int = 1,
) -> SessionPlan | None:
    """Return the most telling plan that fits the budget, or None where nothing does.

    Sessions come first, up to three, for they alone give an interval; then rounds. Blocks have the
    wanted steps where that leaves no session and no size out. Where not even two sessions of one
    round fit, every second size goes from the bottom up, but never the ends and those of
    `must_keep`; where that does not help, one session is planned.
    """
    ordered = sorted(set(sizes))
    kept = {*ordered[:1], *ordered[-1:], *must_keep}.intersection(ordered)
    spare = [size for size in ordered if size not in kept]
    subsets = [tuple(sorted(kept.union(thin(spare, count)))) for count in range(len(spare), -1, -1)]
    attempts = [(sessions, subset, 1) for sessions in (2, 1) for subset in subsets]
    whole = [(WANTED_SESSIONS, subsets[0], steps) for steps in (wanted_steps, 1)]
    for sessions, subset, steps in [*whole, (2, subsets[0], wanted_steps), *attempts]:
        session_s = budget_s / sessions - session_start_s
        rounds = plan_rounds(subset, times, block_s, session_s, least_steps=steps)
        if rounds:
            return SessionPlan(subset, sessions, rounds, steps)
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
