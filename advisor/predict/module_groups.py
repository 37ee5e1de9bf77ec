"""Modules by groups that a reader can take in: repeated blocks are one group.

    encoder.layers.0.attention.query  ─▶  encoder.layers.*    encoder.layers.*.attention
    encoder.layers.1.attention.query  ─▶  encoder.layers.*    encoder.layers.*.attention
    transformer.wte                   ─▶  transformer.wte
    head.dense.weights                ─▶  head.dense

A trace has names and no classes, so blocks count as repeated where they have the same modules
inside.
"""

from collections import Counter
from collections.abc import Sequence

import msgspec

#: Components of a name outside of repeated blocks, and of a part inside one: enough to find the
#: place in the code.
_DEPTH = 2
_PART_DEPTH = 1


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Where one module is counted.

    Attributes:
        name: Of its group.
        block: Dotted name of the one block of the group that it is or is in.
        part: Name of the group's part; None where nothing repeats.
        member: Dotted name of the module that stands for the part in this block.
    """

    name: str
    block: str
    part: str | None
    member: str


def group_modules(names: Sequence[str]) -> tuple[Group, ...]:
    """Return the group of every module, in the order of the names.

    Blocks are siblings named by a number, as in `layers.3` or `encoder_layer_3`, each with modules
    inside: those that have all the modules of the commonest kind among them, if they are at least
    two. A block with one module more, as the first of a stage often has, is still of the kind.

    Args:
        names: Dotted, as in `named_modules()`.

    Source: derived.
    """
    repeated = _find_repeated(names)
    return tuple(_place(name, repeated) for name in names)


def _place(name: str, repeated: frozenset[str]) -> Group:
    components = name.split(".")
    starred = [
        _star(component) if ".".join(components[: i + 1]) in repeated else component
        for i, component in enumerate(components)
    ]
    first = next(
        (i for i, (a, b) in enumerate(zip(components, starred, strict=True)) if a != b), None
    )
    if first is None:
        short = ".".join(components[:_DEPTH])
        return Group(name=short, block=short, part=None, member=short)
    last = first + 1
    while last < len(components) and starred[last] != components[last]:
        last += 1
    end = last + _PART_DEPTH
    return Group(
        name=".".join(starred[: first + 1]),
        block=".".join(components[: first + 1]),
        part=".".join(starred[:end]),
        member=".".join(components[:end]),
    )


def _star(component: str) -> str:
    return component.rstrip("0123456789") + "*"


def _is_numbered(component: str) -> bool:
    """Return whether a component is a number, or a name, an underscore and a number."""
    head, _, number = component.rpartition("_")
    return number.isdecimal() and (head != "" or component == number)


def _find_repeated(names: Sequence[str]) -> frozenset[str]:
    """Return the names of all blocks that are one of several of their kind."""
    inside: dict[str, set[str]] = {}
    for name in names:
        outer, _, last = name.rpartition(".")
        if name:
            inside.setdefault(outer, set()).add(last)
    repeated: set[str] = set()
    for outer, children in inside.items():
        by_stem: dict[str, dict[str, frozenset[str]]] = {}
        for child in children:
            path = f"{outer}.{child}" if outer else child
            if _is_numbered(child) and path in inside:
                by_stem.setdefault(_star(child), {})[path] = frozenset(inside[path])
        for kinds in by_stem.values():
            repeated |= _pick_kind(kinds)
    return frozenset(repeated)


def _pick_kind(kinds: dict[str, frozenset[str]]) -> set[str]:
    """Return the blocks that have all the modules of the commonest kind; on a tie, the fewest."""
    counts = Counter(kinds.values())
    kind = min(counts, key=lambda each: (-counts[each], len(each), sorted(each)))
    found = {path for path, modules in kinds.items() if modules >= kind}
    return found if len(found) > 1 else set()
