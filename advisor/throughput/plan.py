"""Which micro-batch sizes to time, a first sweep, then those around the answer, and how often."""

import bisect
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from advisor.memory.data import Probe
from advisor.throughput.data import ThroughputConclusion
from advisor.throughput.paired_sizes import find_half
from advisor.throughput.saturation import LEAST_SIZES, predict_saturation
from advisor.throughput.step_time import StepTimes, estimate_step_s

#: Most sizes of a first sweep: later sessions add those that the answer asks for.
MOST_SWEEP_SIZES = 8
#: Nearer neighbours say nothing new: they differ by about 1 % where the curve saturates.
_LEAST_RATIO = 1.2
#: The same of refined sizes, which lie where the answer does.
_LEAST_REFINED_RATIO = 1.1
#: The same where stairs were seen: a size a little beyond the end of a tread pays for the next one.
_LEAST_TREAD_RATIO = 1.02
#: A refined size is a multiple of this where there is room: hardware computes in tiles.
_TILE = 8
#: Times the saturation batch by the likeliest stairs at which one more tread is timed.
_BEYOND_RATIO = 1.3
#: Within this ratio of the interval a size may still become the answer.
_NEAR_RATIO = 2.0
#: After as many sessions a refinement is chosen: what one says of where a tread ends, the next
#: one corrects.
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
    wanted: Collection[int] = (),
    most_sizes: int = MOST_SWEEP_SIZES,
) -> tuple[int, ...]:
    """Return the first sizes to time, ascending: about one for each doubling, at most eight.

    The ends of the range, half of the largest and the feasible ones of those wanted are always in.
    """
    smallest = -(-max(min_micro_batch_size, 1) // batch_multiple) * batch_multiple
    largest = max_micro_batch_size // batch_multiple * batch_multiple
    if smallest > largest:
        return ()
    half = math.ceil(largest / 2 / batch_multiple) * batch_multiple
    kept = {
        size
        for size in (smallest, largest, half, *wanted)
        if smallest <= size <= largest and size % batch_multiple == 0
    }
    doublings = (batch_multiple * 2**power for power in itertools.count())
    inside = itertools.takewhile(lambda size: size < largest, doublings)
    grid = [size for size in inside if size > smallest and _is_apart(size, kept, _LEAST_RATIO)]
    return tuple(sorted(kept.union(_rank(grid)[: max(most_sizes - len(kept), 0)])))


def _rank(sizes: Sequence[int]) -> list[int]:
    """Return the sizes, first those that a grid keeps of which every second one goes, and again."""
    left, gone, index = list(sizes), list[int](), 0
    while left:
        index = index if index < len(left) else 0
        gone.append(left.pop(index))
        index += 1
    return gone[::-1]


def choose_refinement(found: ThroughputConclusion, *, batch_multiple: int = 1) -> tuple[int, ...]:
    """Return at most three further sizes around the saturation batch, ascending.

    On stairs they are the ends of treads that may reach it. Else two split the gap below the law's
    answer and one that above it. A curve that rises to its end needs none.
    """
    sizes, law = [point.micro_batch_size for point in found.points], found.step_law
    if law is None or len(sizes) < LEAST_SIZES:
        return ()
    answer, least_ratio, wanted = predict_saturation(law, sizes), _LEAST_REFINED_RATIO, []
    if law.kind == "stairs":
        least_ratio, tile = _LEAST_TREAD_RATIO, law.parameter
        end, beyond = (
            tile * math.ceil(ratio * answer / tile - 1e-9) for ratio in (1.0, _BEYOND_RATIO)
        )
        wanted = [
            math.floor(each) // batch_multiple * batch_multiple
            for each in (end, beyond, end - tile)
        ]
    elif 2 * answer <= sizes[-1]:
        index = bisect.bisect_left(sizes, answer)
        if index > 0:
            wanted = _split_gap(sizes[index - 1], sizes[index], 2, batch_multiple)
        if index + 1 < len(sizes):  # half of the largest may not have been timed
            wanted += _split_gap(sizes[index], sizes[index + 1], 1, batch_multiple)
    chosen: set[int] = set()
    for size in wanted:
        if sizes[0] < size < sizes[-1] and _is_apart(size, {*sizes, *chosen}, least_ratio):
            chosen.add(size)
    return tuple(sorted(chosen))


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
    near = largest if found.step_law is None else predict_saturation(found.step_law, sizes)
    low = min(saturation.low or near, near) / _NEAR_RATIO
    high = max(saturation.high or near, near) * _NEAR_RATIO
    chosen = {sizes[0], half, largest, *(s for s in sizes if s in kept or low <= s <= high)}
    if session < REFINING_SESSIONS:
        chosen.update(choose_refinement(found, batch_multiple=batch_multiple))
    return tuple(sorted(chosen))


def _is_apart(size: int, others: Collection[int], least_ratio: float) -> bool:
    return all(max(size, other) >= least_ratio * min(size, other) for other in others)


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
    #: Each size in a process of its own.
    is_apart: bool = False


def plan_rounds(
    steps_s: Sequence[float], block_s: float, budget_s: float, *, least_steps: int = 1
) -> int:
    """Return how many rounds of one session fit the budget, its start not included: 0 to 2."""
    round_s = sum(
        (_SETTLING_STEPS if step_s < block_s else 1) * step_s
        + _BLOCKS_PER_ROUND * max(least_steps * step_s, block_s)
        for step_s in steps_s
    )
    warmup_s = sum(_SETTLING_STEPS * step_s + _WARMUP_BLOCKS * block_s for step_s in steps_s)
    return max(0, min(_MOST_ROUNDS, int((budget_s - warmup_s) / round_s)))


def choose_session_plan(
    sizes: Collection[int],
    times: StepTimes,
    *,
    block_s: float,
    budget_s: float,
    start_s: float,
    size_start_s: float = 0.0,
    must_keep: Sequence[int] = (),
    wanted_steps: int = 1,
) -> SessionPlan | None:
    """Return the most telling plan that fits the budget; None where nothing does, or is known.

    Sessions come first, up to three, for they alone give an interval; then the wanted steps of a
    block, then rounds. A size is in where two sessions of it and of what matters more fit: those to
    keep, the ends, what a coarser grid keeps. A session starts in `start_s`, each of its sizes in
    `size_start_s`.
    """
    steps_s = {size: estimate_step_s(times, size) for size in sorted(sizes)}

    def count_rounds(chosen: Collection[int], sessions: int, least_steps: int = 1) -> int:
        known_s = [step_s for size in chosen if (step_s := steps_s[size]) is not None]
        session_s = budget_s / sessions - start_s - size_start_s * len(chosen)
        return plan_rounds(known_s, block_s, session_s, least_steps=least_steps)

    if not steps_s or None in steps_s.values():
        return None
    ends = [size for size in (*must_keep, min(steps_s), max(steps_s)) if size in steps_s]
    most, whole = _fill(dict.fromkeys((*ends, *_rank([*steps_s]))), count_rounds)
    wanted = ((WANTED_SESSIONS, wanted_steps), (WANTED_SESSIONS, 1), (2, wanted_steps), (most, 1))
    plans = (
        SessionPlan(whole, sessions, rounds, steps)
        for sessions, steps in (wanted if whole else ())
        if (rounds := count_rounds(whole, sessions, steps))
    )
    return next(plans, None)


def _fill(
    ranked: Iterable[int], count_rounds: Callable[[list[int], int], int]
) -> tuple[int, tuple[int, ...]]:
    """Return how many sessions fit, two at most, and their sizes, those that matter most first."""
    for sessions in (2, 1):
        chosen: list[int] = []
        for size in ranked:
            if count_rounds([*chosen, size], sessions):
                chosen.append(size)
        if chosen:
            return sessions, tuple(sorted(chosen))
    return 0, ()


def merge_ranks(results: Mapping[int, Sequence[Probe]]) -> list[Probe]:
    """Return the first rank's probe, with the time of a step of each rank alone."""
    probes = [each[0] for _, each in sorted(results.items()) if each]
    failed = next((probe for probe in probes if probe.outcome != "fit"), None)
    alone_s = tuple(each for probe in probes for each in probe.rank_step_times_s)
    return [failed or replace(probes[0], rank_step_times_s=alone_s)]
