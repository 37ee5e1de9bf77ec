"""Two traces at two batch sizes give every allocation as c + s·B."""

from collections.abc import Sequence
from typing import Any

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
    small, large = first.micro_batch_size, second.micro_batch_size
    _compare_events(first, second)
    pairs = list(zip(first.blocks, second.blocks, strict=True))
    for low, high in pairs:
        if (low.operator, low.category, low.module) != (high.operator, high.category, high.module):
            raise StructureDiffersError(
                f"{_name(low)} at {small} samples is {_name(high)} at {large}"
            )
    blocks = []
    for low, high in pairs:
        slope, rest = divmod(high.size_bytes - low.size_bytes, large - small)
        if rest:
            raise StructureDiffersError(
                f"{_name(low)} takes {low.size_bytes} bytes at {small} samples and "
                f"{high.size_bytes} at {large}: no whole number for each sample"
            )
        fixed_bytes = low.size_bytes - slope * small
        blocks.append(TraceBlock(fixed_bytes, slope, low.category, low.module))
    slope, rest = divmod(second.flops - first.flops, large - small)
    return _conclude(
        first,
        blocks,
        method="symbolic",
        traced_sizes=(small, large),
        flops_fixed=None if rest else first.flops - slope * small,
        flops_per_sample=None if rest else slope,
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
    fixed, slope = trace.flops_fixed, trace.flops_per_sample
    if fixed is None or slope is None or fixed + slope * size != third.flops:
        fixed = slope = None
    sizes = (*trace.traced_sizes, size)
    return msgspec.structs.replace(
        trace, traced_sizes=sizes, flops_fixed=fixed, flops_per_sample=slope
    )


def hold_for_one_size(trace: SizeTrace, *, reason: str, method: TraceMethod) -> MemoryTrace:
    """Return the trace as one that holds at its own batch size only."""
    return _conclude(
        trace,
        [TraceBlock(each.size_bytes, 0, each.category, each.module) for each in trace.blocks],
        method=method,
        reason=reason,
        traced_sizes=(trace.micro_batch_size,),
        flops_fixed=trace.flops,
        flops_per_sample=0,
    )


def _conclude(trace: SizeTrace, blocks: Sequence[TraceBlock], **facts: Any) -> MemoryTrace:
    return MemoryTrace(
        operators=trace.operators,
        blocks=tuple(blocks),
        events=trace.events,
        phases=trace.phases,
        modules=trace.modules,
        notes=trace.notes,
        checkpointed=trace.checkpointed,
        **facts,
    )


def _compare_events(first: SizeTrace | MemoryTrace, second: SizeTrace) -> None:
    if first.events == second.events and first.phases == second.phases:
        return
    pairs = enumerate(zip(first.events, second.events, strict=False))
    where = next((i for i, (one, other) in pairs if one != other), len(second.events))
    what = ""
    if where < len(second.events):
        event = second.events[where]
        block = second.blocks[event if event >= 0 else -1 - event]
        what = f", where {_name(block)} {'is allocated' if event >= 0 else 'is freed'}"
    raise StructureDiffersError(
        f"the allocations at {second.micro_batch_size} samples differ from those at fewer from "
        f"event {where} on{what}"
    )


def _name(block: SizedBlock) -> str:
    return f"the result of {block.operator}" if block.operator else f"a tensor ({block.category})"
