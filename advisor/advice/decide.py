"""Which batch, and what limits it."""

from collections.abc import Mapping, Sequence

import msgspec

from advisor.advice.candidates import ACCUMULATIONS, Candidate, build_candidates, build_given
from advisor.advice.data import Interval, LimitingFactor
from advisor.advice.tradeoff import choose_batch, choose_near_optimum
from advisor.memory.data import MemoryConclusion
from advisor.memory.split import can_split
from advisor.noise.data import NEAR_OPTIMUM_FRACTION
from advisor.predict.data import LimitedBy
from advisor.statistics import Estimate
from advisor.throughput.data import Saturation, ThroughputConclusion
from advisor.training.data import WorkloadFacts

#: Share of the largest size that fits above which the largest one timed counts as that size.
_TIMED_FRACTION = 0.9

_FACTORS: dict[LimitedBy, LimitingFactor] = {
    "memory": "memory",
    "dataset": "dataset",
    "cap": "user",
    "budget": "user",
}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The batch and what it was weighed against.

    Attributes:
        chosen: The advised step.
        planned: The one that noise and speed lead to; trials may have moved the choice off it.
        optimum: The candidate of least time to train; None without a noise scale.
        fastest: The smallest candidate about as fast for each sample as any.
        interval: Global batches about as good.
        candidates: All of them, by size.
        limiting_factor: What keeps the batch from being larger.
        is_timed_to_the_end: Whether the largest size that fits was timed, so that nothing larger
            was left out.
        is_split: Whether the batch is split since its own micro-batch failed a soak.
        unrestricted: What would be chosen if the user had not given the batch; None where the
            choice was free.
    """

    chosen: Candidate
    planned: Candidate
    optimum: Candidate | None
    fastest: Candidate
    interval: Interval
    candidates: tuple[Candidate, ...]
    limiting_factor: LimitingFactor
    is_timed_to_the_end: bool
    is_split: bool = False
    unrestricted: Candidate | None = None


def decide(
    facts: WorkloadFacts,
    memory: MemoryConclusion,
    throughput: ThroughputConclusion,
    noise_scale: Estimate | None,
    *,
    tried_s: Mapping[int, float | None] | None = None,
    global_batch_size: int | None = None,
) -> Decision | None:
    """Return the batch to advise; None where no size was timed, or none that makes a given batch.

    Args:
        facts: What is known of the model file.
        memory: The largest micro-batch.
        throughput: Measured step times.
        noise_scale: In samples; None where it is unknown.
        tried_s: What the trials took at each batch, in seconds; None for a batch whose rates
            failed.
        global_batch_size: The batch that the user keeps to; None leaves the choice free.
    """
    free = _decide_freely(facts, memory, throughput, noise_scale, tried_s or {})
    if free is None or global_batch_size is None:
        return free
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
    candidates = build_candidates(
        throughput,
        memory,
        base_batch_size=facts.base_batch_size,
        max_accumulation=_allow_accumulation(facts, noise_scale),
        max_global_batch_size=facts.dataset_size,
    )
    if not candidates:
        return None
    is_timed = _is_timed_to_the_end(candidates, memory)
    choice = choose_batch(candidates, noise_scale)
    if choice is None:
        chosen = _choose_by_speed(candidates, throughput.saturation)
        interval = _bound_by_speed(chosen, throughput.saturation)
        optimum, fastest = None, chosen
    else:
        chosen, interval, optimum = choice.chosen, choice.interval, choice.optimum
        fastest = choose_near_optimum(candidates, float("inf"))[0]
    planned, chosen = chosen, _choose_tried(candidates, chosen, tried_s)
    return Decision(
        chosen=chosen,
        planned=planned,
        optimum=optimum,
        fastest=fastest,
        interval=_widen(interval, chosen),
        candidates=candidates,
        limiting_factor=_name_limit(
            chosen,
            fastest,
            max(each.micro_batch_size for each in candidates),
            end=_FACTORS[memory.limited_by] if is_timed else "user",
            has_flattened=throughput.saturation.status in {"saturated", "retrograde"},
        ),
        is_timed_to_the_end=is_timed,
    )


def _choose_tried(
    candidates: Sequence[Candidate], planned: Candidate, tried_s: Mapping[int, float | None]
) -> Candidate:
    """Return the smallest batch that trained about as fast as any; the planned one without trials.

    Source: derived. About: the tolerance that the planned batch is chosen with.
    """
    times = {size: time_s for size, time_s in tried_s.items() if time_s is not None}
    tried = [each for each in candidates if each.global_batch_size in times]
    if planned.global_batch_size not in tried_s or not tried:
        return planned
    most = min(times[each.global_batch_size] for each in tried) * (1.0 + NEAR_OPTIMUM_FRACTION)
    near = [each for each in tried if times[each.global_batch_size] <= most]
    return min(near, key=lambda each: each.global_batch_size)


def _widen(interval: Interval, chosen: Candidate) -> Interval:
    """Return the interval with the chosen batch in it."""
    size, low, high = chosen.global_batch_size, interval.low, interval.high
    return Interval(
        low=None if low is None else min(low, size),
        high=None if high is None else max(high, size),
    )


def _allow_accumulation(facts: WorkloadFacts, noise_scale: Estimate | None) -> int:
    """Return the most forward/backward passes of a step: one where nothing speaks for more."""
    return ACCUMULATIONS[-1] if noise_scale is not None and can_split(facts) else 1


def _is_timed_to_the_end(candidates: Sequence[Candidate], memory: MemoryConclusion) -> bool:
    largest = max(each.micro_batch_size for each in candidates)
    return largest >= _TIMED_FRACTION * (memory.max_micro_batch_size or 0)


def _choose_by_speed(candidates: Sequence[Candidate], saturation: Saturation) -> Candidate:
    by_size = {each.micro_batch_size: each for each in candidates}
    if saturation.batch_size in by_size:
        return by_size[saturation.batch_size]
    if saturation.status in {"memory_limited", "host_bound"}:
        return max(candidates, key=lambda each: each.micro_batch_size)
    return choose_near_optimum(candidates, float("inf"))[0]


def _bound_by_speed(chosen: Candidate, saturation: Saturation) -> Interval:
    """Return the saturation interval, widened to the chosen size."""
    size = chosen.global_batch_size
    if saturation.status == "memory_limited":
        return Interval(low=min(saturation.low or size, size), high=size)
    return Interval(
        low=None if saturation.low is None else min(saturation.low, size),
        high=None if saturation.high is None else max(saturation.high, size),
    )


def _name_limit(
    chosen: Candidate,
    fastest: Candidate,
    largest_micro_batch_size: int,
    *,
    end: LimitingFactor,
    has_flattened: bool,
) -> LimitingFactor:
    """Return the first of noise, speed and the end of the sizes that stops the batch."""
    if chosen.global_batch_size < fastest.global_batch_size:
        return "noise"
    if chosen.global_batch_size != largest_micro_batch_size or has_flattened:
        return "throughput"
    return end
