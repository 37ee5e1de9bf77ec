"""What the surroundings did to the memory search: found, named, and kept out of the figures.

A size that ran out of memory is evidence about the size only where the memory that it was promised
was there; and a size that ran is one that fits only where it ran in the device's own memory.
"""

import re
from collections.abc import Sequence
from statistics import fmean, linear_regression
from typing import NamedTuple

from advisor.device.data import Environment
from advisor.memory.data import Probe, list_sizes
from advisor.training.data import WorkloadFacts
from advisor.units import render_bytes

#: Free memory may fall short of the limit by this share before it counts: the answer is no finer.
TOLERANCE_FRACTION = 0.01
#: Share of the limit below which a failed allocation means that the rest was there in pieces.
_FRAGMENTED_FRACTION = 0.9
#: A step this many times slower than smaller ones predict waits for memory elsewhere: what caches
#: and kernels do stays below a factor of two.
SPILL_FACTOR = 3.0
#: Share of the peak that the kernel swapped out during a probe, above which the size does not fit.
SWAPPED_FRACTION = 0.01
#: Copies of the parameters that an optimizer keeps as its state.
_STATE_COPIES = {
    **dict.fromkeys(("Adam", "AdamW", "NAdam", "RAdam", "Adamax"), 2),
    **dict.fromkeys(("RMSprop", "Adagrad", "Lion", "Signum"), 1),
}
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_AMOUNT = r"(?P<{}>[\d.]+ (?:bytes|[KMGT]iB))"
#: The format of torch's CUDACachingAllocator, 2.0 to 2.13.
_FAILED_ALLOCATION = re.compile(
    "Tried to allocate {}.*? of which {} is free(?:.*?{} allowed)?"
    ".*?{} is allocated by PyTorch.*?{} is reserved by PyTorch but".format(
        *map(_AMOUNT.format, ("tried", "free", "allowed", "allocated", "unallocated"))
    )
)


class Surroundings(NamedTuple):
    """The probes that are evidence about their size; what was found and what to do about it."""

    trusted: tuple[Probe, ...]
    disturbances: tuple[str, ...]


class FailedAllocation(NamedTuple):
    """What torch's CUDA allocator says of the allocation that failed, in bytes."""

    tried: int
    #: On the device at that moment.
    free: int
    #: In tensors of this process, and held by its allocator beside them.
    allocated: int
    unallocated: int
    #: The cap in force, where the message names one.
    allowed: int | None = None


def judge_surroundings(probes: Sequence[Probe]) -> Surroundings:
    """Return which memory probes are evidence about their size, and what the surroundings did."""
    trusted, disturbances = [], []
    largest = max(list_sizes(probes, "fit"), default=0)
    for probe in probes:
        taken = _name_taken_memory(probe)
        if taken is None or probe.outcome != "oom":
            trusted.append(probe)
        disturbances.append(taken or _name_failure(probe, largest))
    return Surroundings(tuple(trusted), tuple(dict.fromkeys(filter(None, disturbances))))


def leave_out_disturbed(probes: Sequence[Probe]) -> list[Probe]:
    """Return the probes that the search goes by.

    A size that was not given the memory it was promised is tried again: it counts where it failed
    twice so, as under a neighbour that stays, and where the kernel killed it.
    """
    trusted = judge_surroundings(probes).trusted
    failed = [probe.micro_batch_size for probe in probes if probe not in trusted]
    return [
        probe
        for probe in probes
        if probe in trusted
        or "SIGKILL" in (probe.message or "")
        or failed.count(probe.micro_batch_size) > 1
    ]


def parse_failed_allocation(message: str) -> FailedAllocation | None:
    """Return the figures of a CUDA out-of-memory message, None where it has not all of them."""
    match = _FAILED_ALLOCATION.search(message)
    if match is None:
        return None
    amounts = {name: text.split() for name, text in match.groupdict().items() if text is not None}
    return FailedAllocation(
        **{name: int(float(number) * _UNITS[unit]) for name, (number, unit) in amounts.items()}
    )


def explain_state_size(facts: WorkloadFacts, capacity_bytes: int) -> str | None:
    """Return how the training state alone exceeds the limit, None where it does not.

    An optimizer whose state is not known counts as keeping nothing.
    """
    parameters, count, optimizer = facts.parameter_bytes, facts.parameter_count, facts.optimizer
    if not parameters or not count:
        return None
    trained = parameters * (facts.trainable_parameter_count or 0) // count
    name = "" if optimizer is None else optimizer.name
    copies = _STATE_COPIES.get(name, 0)
    if optimizer is not None and name == "SGD" and optimizer.momentum:
        copies = 1
    parts = {"parameters": parameters, "gradients": trained, "optimizer state": copies * trained}
    total = sum(parts.values())
    if total <= capacity_bytes:
        return None
    named = ", ".join(f"{part} {render_bytes(size)}" for part, size in parts.items() if size)
    return (
        f"the training state alone needs {render_bytes(total)} ({named}), the limit is "
        f"{render_bytes(capacity_bytes)}"
    )


def can_spill(environment: Environment) -> bool:
    """Return whether a device may lend host memory silently, so that a step slows instead of fails.

    Linux's CUDA driver does not; Windows (WSL included), ROCm and Apple's shared memory may. A
    CPU's swap is counted, not timed: its step times say more about who else is computing.
    """
    kind, platform = environment.device.kind, environment.platform.lower()
    if kind == "cuda":
        return environment.cuda is None or "windows" in platform or "microsoft" in platform
    return kind == "mps"


def find_spill(probe: Probe, earlier: Sequence[Probe], *, timed: bool) -> str | None:
    """Return how a probe that ran shows that it did not fit; None where it does not.

    By what the kernel swapped out, or, where time may tell (`can_spill`), by a step far slower than
    the smaller sizes predict.
    """
    if probe.outcome != "fit":
        return None
    swapped = probe.swapped_bytes
    if swapped and swapped > SWAPPED_FRACTION * (probe.step_peak_bytes or 0):
        return (
            f"the kernel swapped out {render_bytes(swapped)} of the process, so the "
            "size does not fit in memory"
        )
    expected_s = _predict_step_s(probe.micro_batch_size, earlier) if timed else None
    if expected_s is None or not probe.step_times_s:
        return None
    factor = min(probe.step_times_s) / expected_s
    if factor <= SPILL_FACTOR:
        return None
    return (
        f"a step took {factor:.1f} times as long as smaller sizes predict, as when "
        "tensors spill to host memory"
    )


def _predict_step_s(size: int, earlier: Sequence[Probe]) -> float | None:
    """Return the longest step that the smaller sizes predict, None with fewer than two of them."""
    seen = [(p.micro_batch_size, p.step_times_s) for p in earlier if p.outcome == "fit"]
    steps = sorted(((each, min(s)) for each, s in seen if s and each < size), reverse=True)
    times = dict(steps)  # of a size the shortest, which comes last
    if len(times) < 2:
        return None
    largest = max(times)
    slope, _ = linear_regression(list(times), list(times.values()))
    affine_s = fmean(times.values()) + max(0.0, slope) * (size - fmean(times))
    return max(affine_s, times[largest] * size / largest)


def _name_taken_memory(probe: Probe) -> str | None:
    """Return what another process, or a limit that moved, took of what the probe was promised."""
    limit, free, size = probe.capacity_bytes, probe.available_bytes, probe.micro_batch_size
    if limit is None:
        return None
    is_oom, text, promised = probe.outcome == "oom", probe.message or "", render_bytes(limit)
    least, failed = (1.0 - TOLERANCE_FRACTION) * limit, parse_failed_allocation(text)
    held = 0 if failed is None else failed.allocated + failed.unallocated
    if free is not None and free < least:
        fact = (
            f"When micro-batch {size} was tried, {render_bytes(free)} were free of the {promised} "
            "that the limit allows"
        )
    elif is_oom and "SIGKILL" in text:
        fact = f"Micro-batch {size} was killed by the kernel before it met the limit of {promised}"
    elif is_oom and failed is not None and failed.free < failed.tried < least - held:
        fact = (
            f"Micro-batch {size} failed with {render_bytes(held)} held of the {promised} that the "
            f"limit allows, since only {render_bytes(failed.free)} were free on the device"
        )
    else:
        return None
    doubt = ", so its failure says nothing about the size" if is_oom else ""
    return f"{fact}{doubt}. Stop what else uses the memory, or lower --memory-limit, and run again."


def _name_failure(probe: Probe, largest_fit: int) -> str | None:
    """Return a spill, or fragmentation: the one cause of failures that lets a larger size run."""
    size = probe.micro_batch_size
    if probe.outcome == "spill":
        return (
            f"Micro-batch {size} counts as not fitting: {probe.message}. Lower --memory-limit to "
            "what is free of host and device memory."
        )
    if probe.outcome != "oom":
        return None
    failed = parse_failed_allocation(probe.message or "")
    cap = None if failed is None else failed.allowed or probe.capacity_bytes
    if failed is not None and cap and failed.allocated + failed.tried < _FRAGMENTED_FRACTION * cap:
        return (
            f"Fragmentation: {render_bytes(failed.allocated)} of {render_bytes(cap)} were "
            f"allocated when micro-batch {size} failed to get {render_bytes(failed.tried)}. Set "
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True where the GPU supports it."
        )
    if size >= largest_fit:
        return None
    return (
        f"Fragmentation: micro-batch {size} failed while {largest_fit} ran. Check that the size "
        "you train with runs for long; --headroom keeps a distance from the limit."
    )
