"""What the surroundings did to the memory search: found, named, and kept out of the figures.

A size that ran out of memory is evidence about the size only where the memory that it was promised
was there. Otherwise the failure says something about the neighbours.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from advisor.memory.data import MemoryConclusion, Probe
from advisor.memory.failed_allocation import parse_failed_allocation, render_bytes
from advisor.training.data import OptimizerFacts, WorkloadFacts

#: Free memory may fall short of the limit by this share before it counts: the answer is no finer.
TOLERANCE_FRACTION = 0.01
#: Share of the limit below which a failed allocation means that the rest was there in pieces.
_FRAGMENTED_FRACTION = 0.9
#: Copies of the parameters that an optimizer keeps as its state.
_STATE_COPIES = {
    **dict.fromkeys(("Adam", "AdamW", "NAdam", "RAdam", "Adamax"), 2),
    **dict.fromkeys(("RMSprop", "Adagrad", "Lion", "Signum"), 1),
}


class Surroundings(NamedTuple):
    """What was found.

    Attributes:
        trusted: The probes that are evidence about their size.
        disturbances: A fact and what to do about it, each.
    """

    trusted: tuple[Probe, ...]
    disturbances: tuple[str, ...]


def judge_surroundings(probes: Sequence[Probe]) -> Surroundings:
    """Return which probes are evidence about their size, and what the surroundings did.

    Args:
        probes: Of any stage; only those of the memory search are judged.

    Source: derived.
    """
    trusted, disturbances = [], []
    largest = max(
        (p.micro_batch_size for p in probes if p.stage == "memory" and p.outcome == "fit"),
        default=0,
    )
    for probe in probes:
        if probe.stage != "memory":
            trusted.append(probe)
            continue
        taken = _name_taken_memory(probe)
        if taken is None or probe.outcome != "oom":
            trusted.append(probe)
        found = taken or _name_spill(probe) or _name_fragmentation(probe, largest)
        if found is not None:
            disturbances.append(found)
    return Surroundings(tuple(trusted), tuple(dict.fromkeys(disturbances)))


def add_surroundings(
    memory: MemoryConclusion, probes: Sequence[Probe], surroundings: Surroundings
) -> MemoryConclusion:
    """Return the conclusion drawn from the trusted probes, with what the others were.

    Args:
        memory: From the trusted probes alone.
        probes: All probes of the run.
        surroundings: Theirs.

    Source: derived.
    """
    searched = [probe for probe in probes if probe.stage == "memory"]
    failed = [probe for probe in searched if probe.outcome in {"oom", "spill"}]
    was_disturbed = len(surroundings.trusted) < len(probes)
    return msgspec.structs.replace(
        memory,
        # The search ended at a failure all the same, though not at one that proves anything.
        limited_by="memory" if was_disturbed and not memory.verified else memory.limited_by,
        probes=len(searched),
        ooms=len(failed),
        disturbances=surroundings.disturbances,
    )


def explain_state_size(facts: WorkloadFacts, capacity_bytes: int) -> str | None:
    """Return how the training state alone exceeds the limit, None where it does not.

    Parameters, one gradient for each that is trained, and what the optimizer is known to keep for
    it; an optimizer whose state is not known counts as keeping nothing.

    Source: derived.
    """
    parameters, count = facts.parameter_bytes, facts.parameter_count
    if not parameters or not count:
        return None
    trained = parameters * (facts.trainable_parameter_count or 0) // count
    state = _count_state_copies(facts.optimizer) * trained
    total = parameters + trained + state
    if total <= capacity_bytes:
        return None
    parts = [
        f"parameters {render_bytes(parameters)}",
        f"gradients {render_bytes(trained)}",
        *([f"optimizer state {render_bytes(state)}"] if state else []),
    ]
    return (
        f"the training state alone needs {render_bytes(total)} ({', '.join(parts)}), the limit is "
        f"{render_bytes(capacity_bytes)}"
    )


def _name_taken_memory(probe: Probe) -> str | None:
    """Return what another process, or a limit that moved, took of what the probe was promised."""
    limit, free = probe.capacity_bytes, probe.available_bytes
    size = probe.micro_batch_size
    instruction = "Stop what else uses the memory, or lower --memory-limit, and run again."
    doubt = ", so its failure says nothing about the size" if probe.outcome == "oom" else ""
    if limit is None:
        return None
    if free is not None and free < (1.0 - TOLERANCE_FRACTION) * limit:
        return (
            f"When micro-batch {size} was tried, {render_bytes(free)} were free of the "
            f"{render_bytes(limit)} that the limit allows{doubt}. {instruction}"
        )
    if probe.outcome != "oom" or probe.message is None:
        return None
    if "SIGKILL" in probe.message:
        return (
            f"Micro-batch {size} was killed by the kernel before it met the limit of "
            f"{render_bytes(limit)}{doubt}. {instruction}"
        )
    failed = parse_failed_allocation(probe.message)
    if failed is None or failed.free >= failed.tried:
        return None
    held = failed.allocated + failed.unallocated
    if held + failed.tried >= (1.0 - TOLERANCE_FRACTION) * limit:
        return None
    return (
        f"Micro-batch {size} failed with {render_bytes(held)} held of the {render_bytes(limit)} "
        f"that the limit allows, since only {render_bytes(failed.free)} were free on the "
        f"device{doubt}. {instruction}"
    )


def _name_spill(probe: Probe) -> str | None:
    if probe.outcome != "spill":
        return None
    return (
        f"Micro-batch {probe.micro_batch_size} counts as not fitting: {probe.message}. Lower "
        "--memory-limit to what is free of host and device memory."
    )


def _name_fragmentation(probe: Probe, largest_fit: int) -> str | None:
    """Return that memory was there but not in one piece, with the figures where torch gives them.

    Among the causes that a failed probe may have, only this one lets a larger size run.
    """
    if probe.outcome != "oom":
        return None
    size, limit = probe.micro_batch_size, probe.capacity_bytes
    instruction = "Set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True where the GPU supports it."
    failed = parse_failed_allocation(probe.message or "")
    cap = None if failed is None else failed.allowed or limit
    if failed is not None and cap and failed.allocated + failed.tried < _FRAGMENTED_FRACTION * cap:
        return (
            f"Fragmentation: {render_bytes(failed.allocated)} of {render_bytes(cap)} were "
            f"allocated when micro-batch {size} failed to get {render_bytes(failed.tried)}. "
            f"{instruction}"
        )
    if size >= largest_fit:
        return None
    return (
        f"Fragmentation: micro-batch {size} failed while {largest_fit} ran. Check that the size "
        "you train with runs for long; --headroom keeps a distance from the limit."
    )


def _count_state_copies(optimizer: OptimizerFacts | None) -> int:
    if optimizer is None:
        return 0
    if optimizer.name == "SGD":
        return 1 if optimizer.momentum else 0
    return _STATE_COPIES.get(optimizer.name, 0)
