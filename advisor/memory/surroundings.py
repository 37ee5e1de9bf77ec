"""What the surroundings did to the memory search: found, named, and kept out of the figures.

A size that ran out of memory is evidence about the size only where the memory that it was promised
was there; and a size that ran is one that fits only where it ran in the device's own memory.
"""

import re
from collections.abc import Sequence
from statistics import fmean, linear_regression
from typing import NamedTuple

from advisor.device.data import Environment
from advisor.memory.data import Probe
from advisor.training.data import WorkloadFacts
from advisor.units import render_bytes

#: Free memory may fall short of the limit by this share before it counts: the answer is no finer.
TOLERANCE_FRACTION = 0.01
#: Share of the limit below which a failed allocation means that the rest was there in pieces.
_FRAGMENTED_FRACTION = 0.9
#: A step this many times slower than the law of the smaller sizes waits for memory elsewhere: what
#: caches and kernels do to the time of a sample stays below a factor of two.
SPILL_FACTOR = 3.0
#: Share of the peak that the kernel swapped out during a probe, above which the size does not fit.
SWAPPED_FRACTION = 0.01
#: Copies of the parameters that an optimizer keeps as its state.
_STATE_COPIES = {
    **dict.fromkeys(("Adam", "AdamW", "NAdam", "RAdam", "Adamax"), 2),
    **dict.fromkeys(("RMSprop", "Adagrad", "Lion", "Signum", "SGD with momentum"), 1),
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

    @property
    def held(self) -> int:
        """By the allocator of this process."""
        return self.allocated + self.unallocated


def judge_surroundings(probes: Sequence[Probe]) -> Surroundings:
    """Return which memory probes are evidence about their size, and what the surroundings did."""
    trusted, disturbances = [], []
    fits = [probe.micro_batch_size for probe in probes if probe.outcome == "fit"]
    for probe in probes:
        taken = _name_taken_memory(probe)
        if taken is None or probe.outcome != "oom":
            trusted.append(probe)
        found = taken or _name_failure(probe, max(fits, default=0))
        if found is not None:
            disturbances.append(found)
    return Surroundings(tuple(trusted), tuple(dict.fromkeys(disturbances)))


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
    if optimizer is not None and name == "SGD" and optimizer.momentum:
        name = "SGD with momentum"
    state = _STATE_COPIES.get(name, 0) * trained
    total = parameters + trained + state
    if total <= capacity_bytes:
        return None
    parts = f"parameters {render_bytes(parameters)}, gradients {render_bytes(trained)}"
    if state:
        parts += f", optimizer state {render_bytes(state)}"
    return (
        f"the training state alone needs {render_bytes(total)} ({parts}), the limit is "
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
    times: dict[int, float] = {}
    for probe in earlier:
        if probe.outcome == "fit" and probe.step_times_s and probe.micro_batch_size < size:
            step_s = min(probe.step_times_s)
            times[probe.micro_batch_size] = min(step_s, times.get(probe.micro_batch_size, step_s))
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
    is_oom, text = probe.outcome == "oom", probe.message or ""
    failed = parse_failed_allocation(text)
    if free is not None and free < (1.0 - TOLERANCE_FRACTION) * limit:
        fact = (
            f"When micro-batch {size} was tried, {render_bytes(free)} were free of the "
            f"{render_bytes(limit)} that the limit allows"
        )
    elif is_oom and "SIGKILL" in text:
        fact = (
            f"Micro-batch {size} was killed by the kernel before it met the limit of "
            f"{render_bytes(limit)}"
        )
    elif is_oom and failed is not None and _is_crowded_out(failed, limit):
        fact = (
            f"Micro-batch {size} failed with {render_bytes(failed.held)} held of the "
            f"{render_bytes(limit)} that the limit allows, since only {render_bytes(failed.free)} "
            "were free on the device"
        )
    else:
        return None
    doubt = ", so its failure says nothing about the size" if is_oom else ""
    return f"{fact}{doubt}. Stop what else uses the memory, or lower --memory-limit, and run again."


def _is_crowded_out(failed: FailedAllocation, limit_bytes: int) -> bool:
    """Return whether the device was full of something else before the limit was met."""
    wanted = failed.held + failed.tried
    return failed.free < failed.tried and wanted < (1.0 - TOLERANCE_FRACTION) * limit_bytes


def _name_failure(probe: Probe, largest_fit: int) -> str | None:
    """Return a spill, or fragmentation: the one cause of failures that lets a larger size run."""
    size, limit = probe.micro_batch_size, probe.capacity_bytes
    if probe.outcome == "spill":
        return (
            f"Micro-batch {size} counts as not fitting: {probe.message}. Lower --memory-limit to "
            "what is free of host and device memory."
        )
    if probe.outcome != "oom":
        return None
    failed = parse_failed_allocation(probe.message or "")
    cap = None if failed is None else failed.allowed or limit
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
