"""Which micro-batch to try next for the largest one that fits, and what the probes say of it."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, floor, inf, lcm
from operator import attrgetter

from msgspec.structs import replace

from advisor.engine.record import Conclusions, Topic
from advisor.engine.spec import Limits
from advisor.memory.data import (
    LEAST_STEPS,
    PROBES,
    MemoryConclusion,
    MemoryMethod,
    Probe,
    list_sizes,
)
from advisor.memory.guided import GUIDED_LIMITS, choose_guided_size, is_refuted
from advisor.memory.law import find_peaks, fit_memory
from advisor.memory.refusals import MOST_REFUSALS, are_multiples_refused, find_multiple
from advisor.memory.search import (
    RESOLUTION_FRACTION,
    TOO_BIG,
    SearchBounds,
    SearchLimits,
    choose_affine_size,
    read_evidence,
)
from advisor.memory.split import split_batch
from advisor.memory.surroundings import judge_surroundings, leave_out_disturbed
from advisor.predict.data import PREDICTED_MEMORY, LimitedBy, PredictedMemory
from advisor.training.data import WorkloadFacts

#: Probes of one search without a prediction: each costs a process and three steps.
MAX_PROBES = 12
#: Out-of-memory errors of it: one certifies the answer, one is for a law that was wrong.
MAX_OOMS = 2

#: Of a line's value at size zero over the least peak: beyond, it is not noise.
_MOST_OVER_PEAK = 1.1
#: Of several ranks, that which takes most decides.
_PEAKS = (
    "forward_backward_peak_bytes",
    "optimizer_peak_bytes",
    "peak_allocated_bytes",
    "peak_reserved_bytes",
    "peak_device_used_bytes",
    "limit_peak_bytes",
    "alloc_retries",
    "swapped_bytes",
)


def choose_bounds(facts: WorkloadFacts, limits: Limits, capacity_bytes: int | None) -> SearchBounds:
    """Return which sizes may be tried for this workload under these limits."""
    caps = [cap for cap in (facts.dataset_size, limits.max_micro_batch_size) if cap is not None]
    multiple, base = limits.batch_multiple, facts.base_batch_size
    smallest = ceil(facts.min_micro_batch_size / multiple) * multiple
    split = None
    if base is not None:
        most = limits.cap(base, facts.dataset_size)
        split = split_batch(base, largest=most, smallest=smallest, multiple=multiple)
    return SearchBounds(
        min_micro_batch_size=smallest,
        max_micro_batch_size=min(caps, default=None),
        batch_multiple=multiple,
        capacity_bytes=capacity_bytes,
        base_micro_batch_size=None if split is None else split[0],
    )


def choose_next_micro_batch_size(
    history: Sequence[Probe], bounds: SearchBounds, prediction: PredictedMemory | None = None
) -> int | None:
    """Return the size to probe next, or None where the search is over.

    The user's own batch comes first; where it does not fit, the smallest. The search is over when
    the largest allowed size ran, the smallest did not, or a size ran and one at most the resolution
    above did not; after an outcome that is not about memory; after the most errors or probes. Sizes
    at or above one that did not fit are not tried: near the limit fitting is not monotone.
    """
    probes = leave_out_disturbed(_select(history))
    too_big = list_sizes(probes, *TOO_BIG)
    if len(too_big) == len(probes):
        firsts = (bounds.base_micro_batch_size, bounds.min_micro_batch_size)
        least = min(too_big, default=bounds.largest_allowed + 1)
        return next((size for size in firsts if size is not None and size < least), None)
    refused = list_sizes(probes, "refused")
    if len(refused) >= MOST_REFUSALS:
        return None
    if refused and are_multiples_refused(probes):
        size = 2 * max(list_sizes(probes, "fit"))
        is_open = size <= bounds.largest_allowed and size < min(too_big, default=inf)
        return size if is_open and size not in refused else None
    bounds = narrow_bounds(bounds, probes)
    probes = [probe for probe in probes if probe.outcome not in {"refused", "error"}]
    guide = prediction if choose_method(probes, bounds, prediction) == "guided" else None
    # A refuted prediction has cost errors of its own.
    ooms = MAX_OOMS if prediction is None else GUIDED_LIMITS.ooms
    limits = SearchLimits(MAX_PROBES, ooms, RESOLUTION_FRACTION) if guide is None else GUIDED_LIMITS
    evidence = read_evidence(probes, bounds, limits)
    if evidence is None:
        return None
    if guide is None:
        wanted = choose_affine_size(evidence, bounds)
    else:
        wanted = choose_guided_size(evidence, bounds, guide)
    multiple = bounds.batch_multiple
    most = floor(min(wanted, evidence.ceiling))
    return max(most - most % multiple, evidence.ran + multiple)


def narrow_bounds(bounds: SearchBounds, probes: Sequence[Probe]) -> SearchBounds:
    """Return the bounds with the sizes left that may run, by what the model refused.

    Of a script whose data ended early, those of which they last for a probe.
    """
    ends = (p.micro_batch_size * p.steps // LEAST_STEPS for p in probes if p.outcome == "error")
    caps = [cap for cap in (bounds.max_micro_batch_size, *ends) if cap is not None]
    return replace(
        bounds,
        batch_multiple=lcm(bounds.batch_multiple, find_multiple(probes)),
        max_micro_batch_size=min(caps, default=None),
    )


def choose_method(
    history: Sequence[Probe], bounds: SearchBounds, prediction: PredictedMemory | None
) -> MemoryMethod:
    """Return whether the prediction guides the search, or the probes alone do."""
    if prediction is None or bounds.capacity_bytes is None:
        return "affine"
    return "affine" if is_refuted(_select(history), prediction) else "guided"


def conclude_memory(
    probes: Sequence[Probe],
    bounds: SearchBounds,
    *,
    headroom_bytes: int,
    dataset_size: int | None,
    complete: bool = True,
    method: MemoryMethod = "affine",
) -> MemoryConclusion:
    """Return the largest size that ran, and what ends the search there.

    It is verified where a size not more than the resolution above was seen not to fit, or where the
    dataset or the user's cap allows none above. The search is `complete` unless it was stopped.
    """
    searched = _select(probes)
    trusted, disturbances = judge_surroundings(searched)
    fits = [probe for probe in trusted if probe.outcome == "fit"]
    failed = list_sizes(trusted, *TOO_BIG)
    refused = [probe for probe in searched if probe.outcome == "refused"]
    ran = max(list_sizes(fits, "fit"), default=None)
    cap = bounds.max_micro_batch_size
    bounds = narrow_bounds(bounds, searched)
    failed_above = min((size for size in failed if ran is None or size > ran), default=None)
    is_closed = (
        ran is not None and failed_above is not None and bounds.is_gap_closed(ran, failed_above)
    )
    limited_by: LimitedBy = "budget"
    if ran is not None and ran >= bounds.largest_allowed:
        limited_by = "dataset" if cap == dataset_size else "cap"
        if bounds.max_micro_batch_size != cap:
            limited_by = "script"
    elif failed_above is not None and (complete or is_closed or ran is None):
        limited_by = "kernel" if failed_above in list_sizes(trusted, "kernel") else "memory"
    elif complete and refused:
        limited_by = "model"
    verified = limited_by in {"dataset", "script", "cap"} or is_closed
    if len(trusted) < len(searched) and not verified:
        limited_by = "memory"  # the search ended at a failure, though not at one that proves it
    law = fit_memory(fits)
    line = None if law is None or ran is None else law.find_binding(ran)
    peaks = find_peaks(fits, attrgetter("peak_bytes"))
    # A line that begins below zero, or above what a size took, is a local slope.
    most = _MOST_OVER_PEAK * min(peaks.values(), default=inf)
    fixed_bytes = line.fixed_bytes if line is not None and 0.0 <= line.fixed_bytes <= most else None
    headroom_at_max_bytes = None
    if bounds.capacity_bytes is not None and ran in peaks:
        headroom_at_max_bytes = max(0, bounds.capacity_bytes - peaks[ran])
    return MemoryConclusion(
        max_micro_batch_size=ran,
        verified=verified,
        limited_by=limited_by,
        fixed_bytes=fixed_bytes,
        bytes_per_sample=None if line is None else line.bytes_per_sample,
        capacity_bytes=bounds.capacity_bytes,
        headroom_bytes=headroom_bytes,
        smallest_failed=min(failed, default=None),
        probes=len(searched),
        ooms=sum(probe.outcome in {"oom", "spill"} for probe in searched),
        upper_bound=failed_above,
        largest_accumulating=_find_largest(p for p in fits if p.accumulates is not False),
        largest_without_retries=_find_largest(p for p in fits if p.alloc_retries == 0),
        refused=tuple(list_sizes(refused, "refused")),
        refusal=next((probe.message for probe in refused), None),
        headroom_at_max_bytes=headroom_at_max_bytes,
        method=method,
        disturbances=disturbances,
    )


def _select(probes: Sequence[Probe]) -> list[Probe]:
    return [probe for probe in probes if probe.stage == "memory"]


def _find_largest(probes: Iterable[Probe]) -> int | None:
    return max((probe.micro_batch_size for probe in probes), default=None)


def merge_probes(results: Mapping[int, Sequence[Probe]]) -> list[Probe]:
    """Return one probe of all ranks: `oom` where one was, else with the largest of each peak."""
    probes = {rank: each[0] for rank, each in sorted(results.items()) if each}
    failed = {rank: probe for rank, probe in probes.items() if probe.outcome != "fit"}
    if failed:
        rank, probe = min(failed.items(), key=lambda pair: (pair[1].outcome != "oom", pair[0]))
        return [replace(probe, message=f"rank {rank}: {probe.message}")]
    most = {
        name: max(values)
        for name in _PEAKS
        if (values := [v for each in probes.values() if (v := getattr(each, name)) is not None])
    }
    return [replace(next(iter(probes.values())), **most)]


def _conclude(conclusions: Conclusions) -> MemoryConclusion | None:
    record, command = conclusions.record, conclusions.record.command
    probes, prediction = record.all(PROBES), record.get(PREDICTED_MEMORY)
    if record.workload is None or not any(probe.stage == "memory" for probe in probes):
        return None
    capacity_bytes = None
    if command.memory_limit_bytes is not None:
        capacity_bytes = command.memory_limit_bytes - command.headroom_bytes
    bounds = choose_bounds(record.workload, command.limits, capacity_bytes)
    return conclude_memory(
        probes,
        bounds,
        headroom_bytes=command.headroom_bytes,
        dataset_size=record.workload.dataset_size,
        complete=choose_next_micro_batch_size(probes, bounds, prediction) is None,
        method=choose_method(probes, bounds, prediction),
    )


MEMORY = Topic("memory", MemoryConclusion, _conclude)
