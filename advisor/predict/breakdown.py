"""What holds the memory at the moment of the allocated peak, by category and by module.

Repeated blocks are one group of modules, with parts inside; any other module is its own part:

    encoder.layers.0.attention.query  ─▶  encoder.layers.*    encoder.layers.*.attention
    encoder.layers.1.attention.query  ─▶  encoder.layers.*    encoder.layers.*.attention
    head.dense.weights                ─▶  head.dense          head.dense

A trace has names and no classes, so blocks count as repeated where they have the same modules
inside.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate, takewhile
from typing import NamedTuple

import numpy as np

from advisor.predict.data import Breakdown, MemoryShare, ModuleShare, PhaseLevel
from advisor.predict.memory_trace import Category, MemoryTrace
from advisor.predict.replay import find_spans, size_blocks, sum_up

CATEGORY_NAMES: dict[Category, str] = {
    "parameter": "parameters",
    "gradient": "gradients",
    "optimizer_state": "optimizer state",
    "activation": "activations",
    "input": "batch",
    "temporary": "temporaries",
}
#: Components of a name outside of repeated blocks: enough to find the place in the code.
_DEPTH = 2


def break_down(trace: MemoryTrace, micro_batch_size: int) -> Breakdown:
    """Return what is allocated at the peak, the first of several, and how the phases lead up to it.

    The figures are unrounded. The trace must hold for the size.
    """
    sizes = size_blocks(trace, micro_batch_size)
    levels = sum_up(trace, sizes)
    point = int(np.argmax(levels))
    happened = set(trace.events[:point])
    held = {
        index: int(sizes[index])
        for index in happened
        if index >= 0 and -1 - index not in happened and sizes[index]
    }
    moment = [trace.phases[0], *(mark for mark in trace.phases if mark.first_event < point)][-1]
    by_category = Counter[Category]()
    for index, size in held.items():
        by_category[trace.blocks[index].category] += size
    timeline = (
        PhaseLevel(
            phase=mark.phase,
            step=mark.step,
            start_bytes=int(levels[span.start]),
            peak_bytes=int(levels[span.start : span.stop + 1].max()),
            end_bytes=int(levels[span.stop]),
        )
        for mark, span in find_spans(trace)
    )
    return Breakdown(
        micro_batch_size=micro_batch_size,
        peak_bytes=int(levels[point]),
        phase=moment.phase,
        step=moment.step,
        bytes_by_category=_rank(by_category),
        modules=_share_out(trace, held),
        timeline=tuple(timeline),
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


def _share_out(trace: MemoryTrace, held: dict[int, int]) -> tuple[ModuleShare, ...]:
    """Return what each group of modules holds, largest first; together all that is held."""
    places = group_modules(trace.modules)
    blocks: dict[str | None, set[str]] = defaultdict(set)
    for place in places:
        blocks[place.name].add(place.block)
        blocks[place.part].add(place.member)
    found: dict[str | None, dict[str | None, Counter[Category]]] = {}
    for index, size in held.items():
        block = trace.blocks[index]
        name, part = places[block.module][:2] if block.module >= 0 else (None, None)
        found.setdefault(name, {}).setdefault(part, Counter())[block.category] += size

    def share(
        name: str | None, held: Counter[Category], parts: tuple[ModuleShare, ...] = ()
    ) -> ModuleShare:
        return ModuleShare(
            name=name,
            count=len(blocks[name]) or 1,
            size_bytes=held.total(),
            bytes_by_category=_rank(held),
            parts=parts,
        )

    return _rank_shares(
        share(name, sum(parts.values(), Counter()), inner if {*parts} != {name} else ())
        for name, parts in found.items()
        for inner in (_rank_shares(share(part, held) for part, held in parts.items()),)
    )


def _rank(held: Counter[Category]) -> dict[Category, int]:
    return dict(sorted(held.items(), key=lambda item: (-item[1], item[0])))


def _rank_shares(shares: Iterable[ModuleShare]) -> tuple[ModuleShare, ...]:
    return tuple(sorted(shares, key=lambda share: (-share.size_bytes, share.name or "")))


class Group(NamedTuple):
    """Where one module is counted."""

    name: str
    #: Of the group.
    part: str
    #: The one block of the group that it is or is in, and in this what stands for the part.
    block: str
    member: str


def group_modules(names: Sequence[str]) -> tuple[Group, ...]:
    """Return the group of every module, in the order of the names.

    Blocks are siblings named by a number, as in `layers.3` or `encoder_layer_3`, with all the
    modules inside that the commonest kind among them has; one more, as a stage's first often has,
    is still of the kind. A part is one module inside blocks, or inside blocks of blocks.
    """
    repeated = _find_repeated(names)
    return tuple(_place(name, repeated) for name in names)


def _place(name: str, repeated: set[str]) -> Group:
    components = name.split(".")
    is_block = [path in repeated for path in accumulate(components, "{}.{}".format)]
    if not any(is_block):
        short = ".".join(components[:_DEPTH])
        return Group(short, short, short, short)
    starred = [
        _star(one) if is_one else one for one, is_one in zip(components, is_block, strict=True)
    ]
    first = is_block.index(True) + 1
    end = first + len([*takewhile(bool, is_block[first:])]) + 1
    return Group(*(".".join(of[:to]) for of in (starred, components) for to in (first, end)))


def _star(component: str) -> str:
    return component.rstrip("0123456789") + "*"


def _find_repeated(names: Sequence[str]) -> set[str]:
    """Return the names of all blocks that are one of several of their kind."""
    inside: dict[str, set[str]] = {}
    for name in filter(None, names):
        outer, _, last = name.rpartition(".")
        inside.setdefault(outer, set()).add(last)
    siblings: dict[tuple[str, str], dict[str, frozenset[str]]] = {}
    for path, modules in inside.items():
        outer, _, last = path.rpartition(".")
        head, _, number = last.rpartition("_")
        is_numbered = number.isdecimal() and (head != "" or last == number)
        if is_numbered and last in inside.get(outer, ()):
            siblings.setdefault((outer, _star(last)), {})[path] = frozenset(modules)
    return {path for kinds in siblings.values() for path in _pick_kind(kinds)}


def _pick_kind(kinds: dict[str, frozenset[str]]) -> set[str]:
    """Return the blocks that have all the modules of the commonest kind; on a tie, the fewest."""
    counts = Counter(kinds.values())
    kind = min(counts, key=lambda each: (-counts[each], len(each), sorted(each)))
    found = {path for path, modules in kinds.items() if modules >= kind}
    return found if len(found) > 1 else set()
