"""Two traces at two batch sizes give every allocation as c + s·B."""

from typing import Any

from msgspec.structs import replace

from advisor.predict.memory_trace import MemoryTrace, TraceBlock
from advisor.predict.trace.ledger import Buffer, SizeTrace


class StructureDiffersError(Exception):
    """The traces do not hold the same events, or a size is not affine; the text says which."""


def merge_traces(first: SizeTrace, second: SizeTrace) -> MemoryTrace:
    """Return the trace for every batch size: each block on the line through its two sizes.

    Raises StructureDiffersError where events differ, or no line with whole bytes goes through both.
    """
    (small,), (large,) = first.traced_sizes, second.traced_sizes
    _compare_events(first, second)

    def fit(low: int, high: int) -> tuple[int, int] | None:
        slope, rest = divmod(high - low, large - small)
        return None if rest else (low - slope * small, slope)

    blocks = []
    for index, (low, high) in enumerate(zip(first.blocks, second.blocks, strict=True)):
        line = fit(low.fixed_bytes, high.fixed_bytes)
        is_same = first.made_by[index] == second.made_by[index]
        if not is_same or (low.category, low.module) != (high.category, high.module):
            names = _name(first, index), _name(second, index)
            raise StructureDiffersError(f"{names[0]} at {small} samples is {names[1]} at {large}")
        if line is None:
            raise StructureDiffersError(
                f"{_name(first, index)} takes {low.fixed_bytes} bytes at {small} samples and "
                f"{high.fixed_bytes} at {large}: no whole number for each sample"
            )
        blocks.append(TraceBlock(*line, low.category, low.module))

    def join(low: Buffer, high: Buffer, *figures: str) -> Any:
        """Return the buffer with these figures as lines; of the larger where there is none."""
        pairs = {name: (getattr(low, name)[0], getattr(high, name)[0]) for name in figures}
        return replace(low, **{name: fit(*pair) or (pair[1], 0) for name, pair in pairs.items()})

    flops = fit(first.flops_fixed or 0, second.flops_fixed or 0) or (None, None)
    return conclude(
        first,
        blocks=tuple(blocks),
        reductions=tuple(
            join(*pair, "inputs", "outputs")
            for pair in zip(first.reductions, second.reductions, strict=True)
        ),
        embeddings=tuple(
            join(*pair, "indices") for pair in zip(first.embeddings, second.embeddings, strict=True)
        ),
        method="symbolic",
        traced_sizes=(small, large),
        flops_fixed=flops[0],
        flops_per_sample=flops[1],
    )


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
    if (first.events, first.phases) == (second.events, second.phases):
        return
    pairs = enumerate(zip(first.events, second.events, strict=False))
    where = next((i for i, (one, other) in pairs if one != other), len(second.events))
    what = ""
    if where < len(second.events):
        event = second.events[where]
        name = _name(second, max(event, -1 - event))
        what = f", where {name} {'is allocated' if event >= 0 else 'is freed'}"
    raise StructureDiffersError(
        f"the allocations at {second.traced_sizes[0]} samples differ from those at fewer from "
        f"event {where} on{what}"
    )


def _name(trace: SizeTrace, index: int) -> str:
    operator = trace.made_by[index]
    return f"the result of {operator}" if operator else f"a tensor ({trace.blocks[index].category})"
