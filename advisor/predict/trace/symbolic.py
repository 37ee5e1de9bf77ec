"""Two traces at two batch sizes give every allocation as c + s·B."""

from typing import Any

from msgspec.structs import replace

from advisor.predict.memory_trace import MemoryTrace, TraceBlock
from advisor.predict.trace.ledger import SizeTrace


class StructureDiffersError(Exception):
    """The traces do not hold the same events, or a size is not affine; the text says which."""


def merge_traces(first: SizeTrace, second: SizeTrace) -> MemoryTrace:
    """Return the trace for every batch size: each block on the line through its two sizes.

    Raises StructureDiffersError where events differ, or no line with whole bytes goes through both.
    """
    (small,), (large,) = first.traced_sizes, second.traced_sizes
    _compare_events(first, second)
    for index, (low, high) in enumerate(zip(first.blocks, second.blocks, strict=True)):
        kinds = (low.category, low.module), (high.category, high.module)
        if kinds[0] != kinds[1] or first.made_by[index] != second.made_by[index]:
            names = _name(first, index), _name(second, index)
            raise StructureDiffersError(f"{names[0]} at {small} samples is {names[1]} at {large}")
    blocks = []
    for index, (low, high) in enumerate(zip(first.blocks, second.blocks, strict=True)):
        slope, rest = divmod(high.fixed_bytes - low.fixed_bytes, large - small)
        if rest:
            raise StructureDiffersError(
                f"{_name(first, index)} takes {low.fixed_bytes} bytes at {small} samples and "
                f"{high.fixed_bytes} at {large}: no whole number for each sample"
            )
        fixed_bytes = low.fixed_bytes - slope * small
        blocks.append(TraceBlock(fixed_bytes, slope, low.category, low.module))
    growth = large - small
    reductions = tuple(
        replace(
            low,
            inputs=_merge(low.inputs, high.inputs, growth, small),
            outputs=_merge(low.outputs, high.outputs, growth, small),
        )
        for low, high in zip(first.reductions, second.reductions, strict=True)
    )
    embeddings = tuple(
        replace(low, indices=_merge(low.indices, high.indices, growth, small))
        for low, high in zip(first.embeddings, second.embeddings, strict=True)
    )
    low_flops, high_flops = first.flops_fixed or 0, second.flops_fixed or 0
    slope, rest = divmod(high_flops - low_flops, large - small)
    return conclude(
        first,
        blocks=tuple(blocks),
        reductions=reductions,
        embeddings=embeddings,
        method="symbolic",
        traced_sizes=(small, large),
        flops_fixed=None if rest else low_flops - slope * small,
        flops_per_sample=None if rest else slope,
    )


def _merge(low: tuple[int, int], high: tuple[int, int], growth: int, small: int) -> tuple[int, int]:
    """Return the line through the figure of a buffer at two sizes; the larger's where none is."""
    slope, rest = divmod(high[0] - low[0], growth)
    return (high[0], 0) if rest else (low[0] - slope * small, slope)


def check_trace(trace: MemoryTrace, third: SizeTrace) -> MemoryTrace:
    """Return the trace with a further size to its name, which it was seen to predict exactly.

    Raises StructureDiffersError where it does not.
    """
    _compare_events(trace, third)
    (size,) = third.traced_sizes
    for index, (block, seen) in enumerate(zip(trace.blocks, third.blocks, strict=True)):
        predicted = block.fixed_bytes + block.bytes_per_sample * size
        if predicted != seen.fixed_bytes:
            raise StructureDiffersError(
                f"{_name(third, index)} takes {seen.fixed_bytes} bytes at "
                f"{size} samples where a line through two sizes says {predicted}"
            )
    fixed, slope = trace.flops_fixed, trace.flops_per_sample
    if fixed is None or slope is None or fixed + slope * size != third.flops_fixed:
        fixed = slope = None
    sizes = (*trace.traced_sizes, size)
    return replace(trace, traced_sizes=sizes, flops_fixed=fixed, flops_per_sample=slope)


def conclude(trace: SizeTrace, **changes: Any) -> MemoryTrace:
    """Return the trace without the names of operators, and with these fields changed."""
    fields = {name: getattr(trace, name) for name in MemoryTrace.__struct_fields__}
    return MemoryTrace(**{**fields, **changes})


def _compare_events(first: MemoryTrace, second: SizeTrace) -> None:
    if first.events == second.events and first.phases == second.phases:
        return
    pairs = enumerate(zip(first.events, second.events, strict=False))
    where = next((i for i, (one, other) in pairs if one != other), len(second.events))
    what = ""
    if where < len(second.events):
        event = second.events[where]
        name = _name(second, event if event >= 0 else -1 - event)
        what = f", where {name} {'is allocated' if event >= 0 else 'is freed'}"
    raise StructureDiffersError(
        f"the allocations at {second.traced_sizes[0]} samples differ from those at fewer from "
        f"event {where} on{what}"
    )


def _name(trace: SizeTrace, index: int) -> str:
    operator = trace.made_by[index]
    return f"the result of {operator}" if operator else f"a tensor ({trace.blocks[index].category})"
