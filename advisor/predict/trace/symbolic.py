"""Two traces at two batch sizes give every allocation as c + s·B."""

from collections.abc import Sequence

import msgspec

from advisor.predict.memory_trace import MemoryTrace, TraceBlock, TraceMethod
from advisor.predict.trace.ledger import SizedBlock, SizeTrace


class StructureDiffersError(Exception):
    """The traces do not hold the same events, or a size is not affine; the text says which."""


def merge_traces(first: SizeTrace, second: SizeTrace) -> MemoryTrace:
    """Return the trace for every batch size: each block on the line through its two sizes.

    Raises:
        StructureDiffersError: The events differ, or no line with whole bytes goes through both.
    """
    _check_structure(first, second)
    step = second.micro_batch_size - first.micro_batch_size
    blocks = []
    for low, high in zip(first.blocks, second.blocks, strict=True):
        slope, rest = divmod(high.size_bytes - low.size_bytes, step)
        if rest:
            raise StructureDiffersError(
                f"{_name(low)} takes {low.size_bytes} bytes at "
                f"{first.micro_batch_size} samples and {high.size_bytes} at "
                f"{second.micro_batch_size}: no whole number for each sample"
            )
        fixed = low.size_bytes - slope * first.micro_batch_size
        blocks.append(TraceBlock(fixed, slope, low.category, low.module))
    flops_fixed, flops_slope = _fit_flops(first, second)
    return MemoryTrace(
        operators=first.operators,
        method="symbolic",
        traced_sizes=(first.micro_batch_size, second.micro_batch_size),
        blocks=tuple(blocks),
        events=first.events,
        phases=first.phases,
        modules=first.modules,
        flops_fixed=flops_fixed,
        flops_per_sample=flops_slope,
        notes=first.notes,
        checkpointed=first.checkpointed,
    )


def check_trace(trace: MemoryTrace, third: SizeTrace) -> MemoryTrace:
    """Return the trace with a further size to its name, which it was seen to predict exactly.

    Raises:
        StructureDiffersError: A size is not affine in the batch, or the events differ.
    """
    _compare_events(trace, third)
    size = third.micro_batch_size
    for block, seen in zip(trace.blocks, third.blocks, strict=True):
        predicted = block.fixed_bytes + block.bytes_per_sample * size
        if predicted != seen.size_bytes:
            raise StructureDiffersError(
                f"{_name(seen)} takes {seen.size_bytes} bytes at "
                f"{size} samples where a line through two sizes says {predicted}"
            )
    flops = (trace.flops_fixed or 0) + (trace.flops_per_sample or 0) * size
    is_line = trace.flops_fixed is not None and flops == third.flops
    return msgspec.structs.replace(
        trace,
        traced_sizes=(*trace.traced_sizes, size),
        flops_fixed=trace.flops_fixed if is_line else None,
        flops_per_sample=trace.flops_per_sample if is_line else None,
    )


def hold_for_one_size(
    trace: SizeTrace, *, reason: str, method: TraceMethod = "per_size"
) -> MemoryTrace:
    """Return the trace as one that holds at its own batch size only."""
    return MemoryTrace(
        operators=trace.operators,
        method=method,
        traced_sizes=(trace.micro_batch_size,),
        blocks=tuple(
            TraceBlock(block.size_bytes, 0, block.category, block.module) for block in trace.blocks
        ),
        events=trace.events,
        phases=trace.phases,
        modules=trace.modules,
        reason=reason,
        flops_fixed=trace.flops,
        flops_per_sample=None if trace.flops is None else 0,
        notes=trace.notes,
        checkpointed=trace.checkpointed,
    )


def _check_structure(first: SizeTrace, second: SizeTrace) -> None:
    _compare_events(first, second)
    for low, high in zip(first.blocks, second.blocks, strict=True):
        if (low.operator, low.category, low.module) != (high.operator, high.category, high.module):
            raise StructureDiffersError(
                f"{_name(low)} at {first.micro_batch_size} samples is {_name(high)} at "
                f"{second.micro_batch_size}"
            )


def _compare_events(first: SizeTrace | MemoryTrace, second: SizeTrace) -> None:
    if first.events == second.events and first.phases == second.phases:
        return
    pairs = zip(first.events, second.events, strict=False)
    where = next((i for i, (one, other) in enumerate(pairs) if one != other), len(second.events))
    event = second.events[where] if where < len(second.events) else None
    what = _describe(second.blocks, event)
    raise StructureDiffersError(
        f"the allocations at {second.micro_batch_size} samples differ from those at fewer from "
        f"event {where} on{what}"
    )


def _describe(blocks: Sequence[SizedBlock], event: int | None) -> str:
    if event is None:
        return ""
    block = blocks[event if event >= 0 else -1 - event]
    return f", where {_name(block)} {'is allocated' if event >= 0 else 'is freed'}"


def _name(block: SizedBlock) -> str:
    return f"the result of {block.operator}" if block.operator else f"a tensor ({block.category})"


def _fit_flops(first: SizeTrace, second: SizeTrace) -> tuple[int | None, int | None]:
    """Return the line of the operations, (None, None) where it has no whole slope."""
    if first.flops is None or second.flops is None:
        return None, None
    step = second.micro_batch_size - first.micro_batch_size
    slope, rest = divmod(second.flops - first.flops, step)
    return (None, None) if rest else (first.flops - slope * first.micro_batch_size, slope)
