"""The global batches to choose from, each with a step time that rests on measurements."""

import math
from collections.abc import Sequence
from itertools import pairwise

from advisor.memory.data import MemoryConclusion
from advisor.memory.split import split_batch
from advisor.rate.data import Candidate
from advisor.statistics import two_sided_t
from advisor.throughput.data import ThroughputConclusion, ThroughputPoint
from advisor.throughput.step_time import StepTimes, estimate_step_s, read_throughput

#: Time of a sample, over that of endless accumulation, above which accumulation is considered:
#: with less to gain, a batch that needs none is always within 5 % of the optimum.
LEAST_ACCUMULATION_GAIN_FRACTION = 0.05
#: Accumulations considered, about evenly spread: a step of 1.5 misses the optimum by 1 % of time at
#: most, and beyond 32 the optimizer step that they save is a small part of the step.
ACCUMULATIONS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
#: Ratio of two batches from which on one between them is worth considering: a batch off by a factor
#: of sqrt 2 costs 3 % of time at most.
LEAST_GAP_RATIO = math.sqrt(2.0)
#: Standard deviation of the log of the step time over sessions above which a size is left out: its
#: sessions then differ by a factor of about 1.4 or more, and its time says little.
MOST_SESSION_DEVIATION = 0.35
#: Optimizer steps an epoch below which the batch is large for the dataset: epochs, schedules and
#: warm-ups are then counted in very few steps.
LEAST_STEPS_PER_EPOCH = 20


def make_candidate(micro_batch_size: int, count: int, step_s: float) -> Candidate:
    """Return a step of so many micro-batches."""
    return Candidate(
        global_batch_size=micro_batch_size * count,
        micro_batch_size=micro_batch_size,
        gradient_accumulation_steps=count,
        step_s=step_s,
    )


def build_candidates(
    throughput: ThroughputConclusion,
    memory: MemoryConclusion | None,
    *,
    base_batch_size: int | None,
    max_accumulation: int = ACCUMULATIONS[-1],
    max_global_batch_size: int | None = None,
) -> tuple[Candidate, ...]:
    """Return the batches to choose from by size, each with a step time that rests on measurements.

    Micro-batches are those that were timed, whose sessions about agree, and that are not above the
    largest that fits; between two that lie far apart also the doublings of the smaller one, with
    the step time on a straight line. Accumulation is added above the largest of them, where it can
    pay at all, and for a base batch that needs it (docs/method.md, section 5).

    Args:
        throughput: Measured step times.
        memory: The largest micro-batch; None where it is not known to be limited.
        base_batch_size: The user's global batch.
        max_accumulation: Most forward/backward passes for each optimizer step; 1 forbids it.
        max_global_batch_size: The samples of the dataset; None without a limit.
    """
    points = [point for point in _list_fitting(throughput, memory) if _do_sessions_agree(point)]
    if not points:
        return ()
    times = read_throughput(throughput, points)
    singles = [_time(times, size, 1) for size in [*times.step_s, *_fill_gaps([*times.step_s])]]
    accumulations = []
    if max_accumulation > 1:
        accumulations = _choose_accumulations(points, singles, max_accumulation)
        if base_batch_size is not None and base_batch_size > points[-1].micro_batch_size:
            accumulations += _divide(points, base_batch_size)
    accumulated = [_time(times, point.micro_batch_size, count) for point, count in accumulations]
    by_size = {
        each.global_batch_size: each
        for each in [*accumulated, *singles]
        if max_global_batch_size is None or each.global_batch_size <= max_global_batch_size
    }
    return tuple(by_size[size] for size in sorted(by_size))


def build_given(
    throughput: ThroughputConclusion,
    memory: MemoryConclusion | None,
    global_batch_size: int,
    *,
    can_split: bool,
) -> Candidate | None:
    """Return the step of one batch: whole where that was timed and fits, else in equal parts.

    The parts are the largest micro-batches that were timed, fit and divide it; None where there are
    none. Points whose sessions disagree count as well: there is no other batch to choose instead.
    """
    for point, count in _divide(_list_fitting(throughput, memory), global_batch_size):
        if count == 1 or can_split:
            return _time(read_throughput(throughput), point.micro_batch_size, count)
    return None


def interpolate_step_s(candidates: Sequence[Candidate], global_batch_size: float) -> float:
    """Return the seconds of a step between the candidates; outside of them nothing is known."""
    times = StepTimes(step_s={each.global_batch_size: each.step_s for each in candidates})
    step_s = estimate_step_s(times, global_batch_size, may_extrapolate=False)
    assert step_s is not None, f"batch {global_batch_size} is outside of what was measured"
    return step_s


def find_split(candidates: Sequence[Candidate], global_batch_size: int) -> tuple[int, int]:
    """Return micro-batch and accumulation that make up the batch.

    It is the candidate's own where there is one; else as few micro-batches as the largest that was
    timed allows, all of one size.
    """
    for each in candidates:
        if each.global_batch_size == global_batch_size:
            return each.micro_batch_size, each.gradient_accumulation_steps
    largest = max(each.micro_batch_size for each in candidates)
    split = split_batch(global_batch_size, largest=largest)
    assert split is not None  # micro-batches of one sample make any batch
    return split


def _list_fitting(
    throughput: ThroughputConclusion, memory: MemoryConclusion | None
) -> list[ThroughputPoint]:
    """Return the points that were timed and fit, by size."""
    largest = memory.max_micro_batch_size if memory is not None else None
    points = [
        point
        for point in throughput.points
        if point.step_s.point is not None and (largest is None or point.micro_batch_size <= largest)
    ]
    return sorted(points, key=lambda point: point.micro_batch_size)


def _do_sessions_agree(point: ThroughputPoint) -> bool:
    """Return whether the sessions agree on the step time; a single session cannot disagree."""
    step_s = point.step_s
    if point.sessions < 2 or step_s.high is None or step_s.point is None:
        return True
    quantile = two_sided_t(step_s.confidence, point.sessions - 1)
    deviation = math.log(step_s.high / step_s.point) * math.sqrt(point.sessions) / quantile
    return deviation <= MOST_SESSION_DEVIATION


def _time(times: StepTimes, micro_batch_size: int, count: int) -> Candidate:
    step_s = estimate_step_s(times, micro_batch_size, count)
    assert step_s is not None
    return make_candidate(micro_batch_size, count, step_s)


def _fill_gaps(sizes: Sequence[int]) -> list[int]:
    """Return the doublings between neighbours, none near the larger one."""
    filled = []
    for one, other in pairwise(sizes):
        size = 2 * one
        while size * LEAST_GAP_RATIO <= other:
            filled.append(size)
            size *= 2
    return filled


def _choose_accumulations(
    points: Sequence[ThroughputPoint], singles: Sequence[Candidate], max_accumulation: int
) -> list[tuple[ThroughputPoint, int]]:
    """Return accumulations of the fastest micro-batch, none where they cannot gain enough."""
    timed = [
        (point.micro_step_s / point.micro_batch_size, point)
        for point in points
        if point.micro_step_s is not None
    ]
    if not timed:
        return []
    fastest_s, fastest = min(timed, key=lambda pair: pair[0])
    least_s = min(each.sample_s for each in singles)
    if least_s <= (1.0 + LEAST_ACCUMULATION_GAIN_FRACTION) * fastest_s:
        return []
    return [
        (fastest, times)
        for times in ACCUMULATIONS
        if times <= max_accumulation
        and times * fastest.micro_batch_size > points[-1].micro_batch_size
    ]


def _divide(
    points: Sequence[ThroughputPoint], global_batch_size: int
) -> list[tuple[ThroughputPoint, int]]:
    """Return the largest point that divides a batch, and how often, if there is one."""
    dividing = [point for point in points if global_batch_size % point.micro_batch_size == 0]
    return [(point, global_batch_size // point.micro_batch_size) for point in dividing[-1:]]
