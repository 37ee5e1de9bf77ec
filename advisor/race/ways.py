"""The global batches to choose from, each with the seconds of a step in the user's loop."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from advisor.engine.record import Conclusions, Topic
from advisor.memory.plan import MEMORY
from advisor.memory.split import can_split, split_batch
from advisor.race.loop_time import LOOP_TIMES
from advisor.rate.data import TRIALS, Candidate
from advisor.rate.range_data import LR_RANGES
from advisor.soak.data import SOAKS
from advisor.soak.plan import find_failed_sizes
from advisor.throughput.conclude import THROUGHPUT

#: Time of a sample, over that of endless accumulation, above which accumulation is considered:
#: with less to gain, a batch that needs none is always within 5 % of the optimum.
LEAST_ACCUMULATION_GAIN_FRACTION = 0.05
#: Accumulations considered: each a step of 1.5 or less, which misses the optimum by 1 % of time;
#: beyond 32 the optimizer step that they save is a small part of the step.
ACCUMULATIONS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
#: Ratio of two batches from which on one between them is worth considering: a batch off by a factor
#: of sqrt 2 costs 3 % of time at most.
LEAST_GAP_RATIO = math.sqrt(2.0)
#: Share of what fits that a part of a batch must have: 4,309 samples come in 31 of 139 or in one.
_LEAST_PART = 0.25


def _conclude(conclusions: Conclusions) -> tuple[Candidate, ...]:
    """Return the batches by size; empty where no size was timed that fits.

    Micro-batches are those that were timed and the doublings between them. Accumulation comes on
    top where it can pay at all; for the user's own batch, a given one and those that were trained,
    where they do not fit; and where a soak ran out of memory. A batch that only small parts divide
    is left out but where it is the user's own: near it are others that are made of large ones.
    """
    record, times = conclusions.record, conclusions.of(LOOP_TIMES)
    memory, throughput = conclusions.of(MEMORY), conclusions.of(THROUGHPUT)
    facts, limits = record.workload, record.command.limits
    if facts is None or times is None or throughput is None:
        return ()
    most = memory.max_micro_batch_size if memory else None
    timed = sorted(p.micro_batch_size for p in throughput.points)
    timed = [size for size in timed if not most or size <= most]
    if not timed:
        return ()
    failed = min(find_failed_sizes(record.all(SOAKS)), default=timed[-1] + 1)
    largest = min(timed[-1], failed - 1)
    part = memory.largest_accumulating if memory else None
    may_split = can_split(facts)
    own = {size for size in (facts.base_batch_size, limits.global_batch_size) if size}
    trained = (*record.all(TRIALS), *record.all(LR_RANGES))
    wanted = {*timed, *_fill_gaps(timed), *own, *(each.global_batch_size for each in trained)}
    repeated = [size for size in timed if size <= min(largest, part or largest)]
    if may_split and repeated:
        one, endless = (times.estimate_s(repeated[-1], count) for count in (1, ACCUMULATIONS[-1]))
        least = 1.0 + LEAST_ACCUMULATION_GAIN_FRACTION
        if one is not None and endless and one > least * endless / ACCUMULATIONS[-1]:
            wanted |= {count * repeated[-1] for count in ACCUMULATIONS}
    ways = []
    for size in sorted(wanted):
        split = split_batch(
            size,
            largest=largest,
            largest_part=part,
            smallest=facts.min_micro_batch_size,
            multiple=limits.batch_multiple,
            may_split=may_split,
        )
        if split is None or (facts.dataset_size is not None and size > facts.dataset_size):
            continue
        step_s = times.estimate_s(*split)
        if step_s is None or (size not in own and split[0] < _LEAST_PART * min(size, largest)):
            continue
        ways.append(
            Candidate(
                global_batch_size=size,
                micro_batch_size=split[0],
                gradient_accumulation_steps=split[1],
                step_s=step_s,
            )
        )
    return tuple(ways)


def _fill_gaps(sizes: Sequence[int]) -> Iterator[int]:
    """Yield the doublings between neighbours, none near the larger one."""
    for one, other in pairwise(sizes):
        size = 2 * one
        while size * LEAST_GAP_RATIO <= other:
            yield size
            size *= 2


WAYS = Topic("ways", tuple[Candidate, ...], _conclude)


def find_way(ways: Iterable[Candidate] | None, global_batch_size: int | None) -> Candidate | None:
    """Return the way to make a batch; None where there is none."""
    return next((way for way in ways or () if way.global_batch_size == global_batch_size), None)
