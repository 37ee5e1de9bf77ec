"""What holds the memory at the moment of the allocated peak, by category and by module."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from advisor.predict.data import Breakdown, MemoryShare, ModuleShare, PhaseLevel
from advisor.predict.memory_trace import Category, MemoryTrace
from advisor.predict.module_groups import group_modules
from advisor.predict.replay import Integers, accumulate, find_spans, size_blocks

CATEGORY_NAMES: dict[Category, str] = {
    "parameter": "parameters",
    "gradient": "gradients",
    "optimizer_state": "optimizer state",
    "activation": "activations",
    "input": "batch",
    "temporary": "temporaries",
}


def break_down(trace: MemoryTrace, micro_batch_size: int) -> Breakdown:
    """Return what is allocated at the peak, the first of several, and how the phases lead up to it.

    The figures are unrounded. The trace must hold for the size.
    """
    sizes = size_blocks(trace, micro_batch_size)
    levels = accumulate(trace, sizes)
    point = int(np.argmax(levels))
    freed = {-1 - event for event in trace.events[:point] if event < 0}
    alive = {event for event in trace.events[:point] if event >= 0} - freed
    held = {index: int(sizes[index]) for index in alive if sizes[index]}
    moment = [trace.phases[0], *(mark for mark in trace.phases if mark.first_event < point)][-1]
    by_category = Counter[Category]()
    for index, size in held.items():
        by_category[trace.blocks[index].category] += size
    return Breakdown(
        micro_batch_size=micro_batch_size,
        peak_bytes=int(levels[point]),
        phase=moment.phase,
        step=moment.step,
        bytes_by_category=_rank(by_category),
        modules=_share_out(trace, held),
        timeline=_draw_timeline(trace, levels),
    )


def compose_peak(
    peak: Breakdown, *, reserved_bytes: int, workspace_bytes: int, context_bytes: int
) -> tuple[MemoryShare, ...]:
    """Return what a process takes at the moment when its tensors take the most.

    The workspaces are inside of the reserved memory, the context is outside of it.
    """
    held = peak.bytes_by_category
    shares = {
        **{name: held.get(category, 0) for category, name in CATEGORY_NAMES.items()},
        "workspaces": workspace_bytes,
        "allocator": max(0, reserved_bytes - workspace_bytes - sum(held.values())),
        "context": context_bytes,
    }
    return tuple(MemoryShare(part=part, size_bytes=size) for part, size in shares.items())


def _draw_timeline(trace: MemoryTrace, levels: Integers) -> tuple[PhaseLevel, ...]:
    return tuple(
        PhaseLevel(
            phase=mark.phase,
            step=mark.step,
            start_bytes=int(levels[span.start]),
            peak_bytes=int(levels[span.start : span.stop + 1].max()),
            end_bytes=int(levels[span.stop]),
        )
        for mark, (_, span) in zip(trace.phases, find_spans(trace), strict=True)
    )


def _share_out(trace: MemoryTrace, held: dict[int, int]) -> tuple[ModuleShare, ...]:
    """Return what each group of modules holds, largest first; together all that is held."""
    groups = group_modules(trace.modules)
    blocks: dict[str | None, set[str]] = defaultdict(set)
    for group in groups:
        blocks[group.name].add(group.block)
        if group.part is not None:
            blocks[group.part].add(group.member)
    parts: dict[tuple[str | None, str | None], Counter[Category]] = defaultdict(Counter)
    for index, size in held.items():
        block = trace.blocks[index]
        place: tuple[str | None, str | None] = (None, None)
        if block.module >= 0:
            place = groups[block.module].name, groups[block.module].part
        parts[place][block.category] += size
    by_group: dict[str | None, list[ModuleShare]] = defaultdict(list)
    for (name, part), held_bytes in parts.items():
        known = name if part is None else part
        by_group[name].append(_share(known, len(blocks[known]) or 1, held_bytes))
    return _rank_shares(_merge(name, len(blocks[name]), found) for name, found in by_group.items())


def _merge(name: str | None, count: int, parts: list[ModuleShare]) -> ModuleShare:
    if [part.name for part in parts] == [name]:
        return parts[0]
    total = Counter[Category]()
    for part in parts:
        total.update(part.bytes_by_category)
    return _share(name, count, total, _rank_shares(parts))


def _share(
    name: str | None, count: int, held: Counter[Category], parts: tuple[ModuleShare, ...] = ()
) -> ModuleShare:
    return ModuleShare(
        name=name,
        count=count,
        size_bytes=held.total(),
        bytes_by_category=_rank(held),
        parts=parts,
    )


def _rank(held: Counter[Category]) -> dict[Category, int]:
    return dict(sorted(held.items(), key=lambda item: (-item[1], item[0])))


def _rank_shares(shares: Iterable[ModuleShare]) -> tuple[ModuleShare, ...]:
    return tuple(sorted(shares, key=lambda share: (-share.size_bytes, share.name or "")))
