"""Which batch, and what limits it."""

import math
from collections.abc import Mapping, Sequence

import msgspec

from advisor.advice.candidates import (
    ACCUMULATIONS,
    build_candidates,
    build_given,
    make_candidate,
)
from advisor.advice.data import Interval, LimitingFactor
from advisor.advice.tradeoff import choose_batch, choose_near_optimum
from advisor.memory.data import MemoryConclusion
from advisor.memory.split import can_split, split_batch
from advisor.noise.data import NEAR_OPTIMUM_FRACTION
from advisor.predict.data import LimitedBy
from advisor.rate.data import Candidate
from advisor.statistics import Estimate
from advisor.throughput.data import Saturation, ThroughputConclusion
from advisor.throughput.step_time import estimate_step_s, read_throughput
from advisor.training.data import WorkloadFacts

#: Share of the largest size that fits above which the largest one timed counts as that size.
_TIMED_FRACTION = 0.9

#: Noise scales tried, in samples, one for each doubling; beyond the last no run is known.
_DOUBLINGS = 30

_FACTORS: dict[LimitedBy, LimitingFactor] = {"memory": "memory", "dataset": "dataset"}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The batch and what it was weighed against."""

    chosen: Candidate
    #: What noise and speed lead to; trials may have moved the choice off it.
    planned: Candidate
    #: Of least time to train; None without a noise scale.
    optimum: Candidate | None
    #: The smallest about as fast for each sample as any.
    fastest: Candidate
    #: Global batches about as good.
    interval: Interval
    candidates: tuple[Candidate, ...]
    limiting_factor: LimitingFactor
    #: Whether the largest size that fits was timed, so that nothing larger was left out.
    is_timed_to_the_end: bool
    #: Since its own micro-batch failed a soak.
    is_split: bool = False
    #: What would be chosen if the user had not given the batch; None where the choice was free.
    unrestricted: Candidate | None = None


def decide(
    facts: WorkloadFacts,
    memory: MemoryConclusion,
    throughput: ThroughputConclusion,
    noise_scale: Estimate | None,
    *,
    tried_s: Mapping[int, float | None] | None = None,
    global_batch_size: int | None = None,
    failed_micro_batch_size: int | None = None,
    batch_multiple: int = 1,
) -> Decision | None:
    """Return the batch to advise; None where no size was timed, or none that makes a given batch.

    Where its micro-batch failed a soak, the same batch is made of smaller ones; where it cannot be
    split, a smaller batch is decided on, unless the user keeps to the batch: then there is none.

    Args:
        facts: Of the model file.
        memory: The largest micro-batch.
        throughput: Measured step times.
        noise_scale: In samples; None where it is unknown.
        tried_s: What the trials took at each batch, in seconds; None for a batch whose rates
            failed.
        global_batch_size: The batch that the user keeps to; None leaves the choice free.
        failed_micro_batch_size: The smallest that ran out of memory when trained for longer.
        batch_multiple: Only multiples of this size are micro-batches.
    """
    decision = _decide_freely(facts, memory, throughput, noise_scale, tried_s or {})
    if decision is not None and global_batch_size is not None:
        decision = _keep_to(decision, facts, memory, throughput, global_batch_size)
    failed = failed_micro_batch_size
    if decision is None or failed is None or decision.chosen.micro_batch_size < failed:
        return decision
    split = split_batch(
        decision.chosen.global_batch_size,
        largest=failed - 1,
        smallest=facts.min_micro_batch_size,
        multiple=batch_multiple,
        may_split=can_split(facts),
    )
    if split is not None:
        return _split_chosen(decision, throughput, *split)
    capped = msgspec.structs.replace(memory, max_micro_batch_size=failed - 1, limited_by="memory")
    return decide(
        facts, capped, throughput, noise_scale, tried_s=tried_s, global_batch_size=global_batch_size
    )


def _keep_to(
    free: Decision,
    facts: WorkloadFacts,
    memory: MemoryConclusion,
    throughput: ThroughputConclusion,
    global_batch_size: int,
) -> Decision | None:
    """Return the decision for the batch that the user gave, None where nothing makes it up."""
    if facts.dataset_size is not None and global_batch_size > facts.dataset_size:
        return None
    chosen = build_given(throughput, memory, global_batch_size, can_split=can_split(facts))
    if chosen is None:
        return None
    others = [each for each in free.candidates if each.global_batch_size != global_batch_size]
    return msgspec.structs.replace(
        free,
        chosen=chosen,
        planned=chosen,
        candidates=tuple(sorted([*others, chosen], key=lambda each: each.global_batch_size)),
        limiting_factor="user",
        unrestricted=free.planned,
    )


def _split_chosen(
    decision: Decision, throughput: ThroughputConclusion, size: int, times: int
) -> Decision:
    """Return the decision with its step made of smaller micro-batches."""
    old = decision.chosen
    step_s = estimate_step_s(read_throughput(throughput), size, times)
    new = make_candidate(size, times, step_s or old.step_s)
    candidates = tuple(new if each == old else each for each in decision.candidates)
    return msgspec.structs.replace(decision, chosen=new, candidates=candidates, is_split=True)


def _decide_freely(
    facts: WorkloadFacts,
    memory: MemoryConclusion,
    throughput: ThroughputConclusion,
    noise_scale: Estimate | None,
    tried_s: Mapping[int, float | None],
) -> Decision | None:
    """Return the best batch of all that were timed, and what it was weighed against.

    With a noise scale it is the small end of the range of least time to train. Without one it is
    the batch from which on larger ones are no faster, or the largest where none is. Once trials ran
    at that batch, the one decides that trained fastest in them.
    """
    saturation = throughput.saturation
    candidates = build_candidates(
        throughput,
        memory,
        base_batch_size=facts.base_batch_size,
        max_accumulation=ACCUMULATIONS[-1] if noise_scale is not None and can_split(facts) else 1,
        max_global_batch_size=facts.dataset_size,
    )
    if not candidates:
        return None
    largest = max(each.micro_batch_size for each in candidates)
    is_timed_to_the_end = largest >= _TIMED_FRACTION * (memory.max_micro_batch_size or 0)
    choice = choose_batch(candidates, noise_scale)
    if choice is None:
        planned = fastest = _choose_by_speed(candidates, saturation)
        optimum, interval = None, _bound_by_speed(planned, saturation)
    else:
        planned, interval, optimum = choice.chosen, choice.interval, choice.optimum
        fastest = choose_near_optimum(candidates, math.inf)[0]
    chosen = _choose_tried(candidates, planned, tried_s)
    if chosen.global_batch_size < fastest.global_batch_size:
        limit: LimitingFactor = "noise"
    elif chosen.global_batch_size != largest or saturation.status in {"saturated", "retrograde"}:
        limit = "throughput"
    else:
        limit = _FACTORS.get(memory.limited_by, "user") if is_timed_to_the_end else "user"
    return Decision(
        chosen=chosen,
        planned=planned,
        optimum=optimum,
        fastest=fastest,
        interval=_widen(interval.low, interval.high, chosen),
        candidates=candidates,
        limiting_factor=limit,
        is_timed_to_the_end=is_timed_to_the_end,
    )


def _choose_tried(
    candidates: Sequence[Candidate], planned: Candidate, tried_s: Mapping[int, float | None]
) -> Candidate:
    """Return the smallest batch that trained about as fast as any; the planned one without trials.

    About: the tolerance that the planned batch is chosen with.
    """
    times = {size: time_s for size, time_s in tried_s.items() if time_s is not None}
    tried = [each for each in candidates if each.global_batch_size in times]
    if planned.global_batch_size not in tried_s or not tried:
        return planned
    most = min(times[each.global_batch_size] for each in tried) * (1.0 + NEAR_OPTIMUM_FRACTION)
    return next(each for each in tried if times[each.global_batch_size] <= most)


def _choose_by_speed(candidates: Sequence[Candidate], saturation: Saturation) -> Candidate:
    by_size = {each.micro_batch_size: each for each in candidates}
    if saturation.batch_size in by_size:
        return by_size[saturation.batch_size]
    if saturation.status in {"memory_limited", "host_bound"}:
        return by_size[max(by_size)]
    return choose_near_optimum(candidates, math.inf)[0]


def _bound_by_speed(chosen: Candidate, saturation: Saturation) -> Interval:
    size = chosen.global_batch_size
    if saturation.status == "memory_limited":
        return Interval(low=min(saturation.low or size, size), high=size)
    return _widen(saturation.low, saturation.high, chosen)


def _widen(low: int | None, high: int | None, chosen: Candidate) -> Interval:
    """Return the interval with the chosen batch in it."""
    size = chosen.global_batch_size
    return Interval(
        low=None if low is None else min(low, size),
        high=None if high is None else max(high, size),
    )


def find_settling_noise_scale(
    facts: WorkloadFacts,
    memory: MemoryConclusion | None,
    throughput: ThroughputConclusion | None,
    global_batch_size: int | None = None,
) -> float | None:
    """Return the noise scale, a power of two, from which on the advised batch is the same.

    None where no size was timed, where the batch still changes at 2³⁰ samples, or where a batch was
    given: it is settled anyway, but its rate still depends on the noise.
    """
    if memory is None or throughput is None or global_batch_size is not None:
        return None

    def choose(scale: float) -> int | None:
        decision = decide(facts, memory, throughput, Estimate(scale, scale, scale))
        return None if decision is None else decision.chosen.global_batch_size

    last, settled = choose(2.0**_DOUBLINGS), None
    if last is None:
        return None
    for doubling in reversed(range(_DOUBLINGS)):
        if choose(2.0**doubling) != last:
            return settled
        settled = 2.0**doubling
    return settled
