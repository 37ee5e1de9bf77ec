"""The parts of a predicted peak; together they are what the driver would see."""

from advisor.predict.breakdown import break_down
from advisor.predict.data import MemoryShare
from advisor.predict.memory_trace import Category, MemoryTrace

_PARTS: dict[Category, str] = {
    "parameter": "parameters",
    "gradient": "gradients",
    "optimizer_state": "optimizer state",
    "activation": "activations",
    "input": "batch",
    "temporary": "temporaries",
}


def compose_peak(
    trace: MemoryTrace,
    micro_batch_size: int,
    *,
    reserved_bytes: int,
    workspace_bytes: int,
    context_bytes: int,
) -> tuple[MemoryShare, ...]:
    """Return what a process takes at the moment when its tensors take the most.

    The allocator's part is what it reserves beyond the tensors: rounding and free blocks.

    Args:
        trace: Holds for this size.
        micro_batch_size: In samples.
        reserved_bytes: Peak of the allocator.
        workspace_bytes: Held by libraries, inside the reserved memory.
        context_bytes: Outside of it.

    Source: derived.
    """
    found = break_down(trace, micro_batch_size).bytes_by_category
    held = {category: found.get(category, 0) for category in _PARTS}
    rest = max(0, reserved_bytes - workspace_bytes - sum(held.values()))
    shares = {
        **{_PARTS[category]: size for category, size in held.items()},
        "workspaces": workspace_bytes,
        "allocator": rest,
        "context": context_bytes,
    }
    return tuple(MemoryShare(part=part, size_bytes=size) for part, size in shares.items())
