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
    """Where one module is counted."""

    name: str
    #: The one block of the group that it is or is in.
    block: str
    #: Of the group; None where nothing repeats. In this block `member` stands for it.
    part: str | None
    member: str


def group_modules(names: Sequence[str]) -> tuple[Group, ...]:
    """Return the group of every module, in the order of the names.

    Blocks are siblings named by a number, as in `layers.3` or `encoder_layer_3`, with all the
    modules inside that the commonest kind among them has; one more, as a stage's first often has,
    is still of the kind.
    """
    repeated = _find_repeated(names)
    return tuple(_place(name, repeated) for name in names)


def _place(name: str, repeated: set[str]) -> Group:
    components = name.split(".")
    is_block = [".".join(components[: i + 1]) in repeated for i in range(len(components))]
    if not any(is_block):
        short = ".".join(components[:_DEPTH])
        return Group(name=short, block=short, part=None, member=short)
    starred = [
        _star(one) if is_one else one for one, is_one in zip(components, is_block, strict=True)
    ]
    first = is_block.index(True)
    last = first + 1
    while last < len(components) and is_block[last]:
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


def _find_repeated(names: Sequence[str]) -> set[str]:
    """Return the names of all blocks that are one of several of their kind."""
    inside: dict[str, set[str]] = {}
    for name in filter(None, names):
        outer, _, last = name.rpartition(".")
        inside.setdefault(outer, set()).add(last)
    siblings: dict[tuple[str, str], dict[str, frozenset[str]]] = {}
    for path, modules in inside.items():
        outer, _, last = path.rpartition(".")
        if _is_numbered(last) and last in inside.get(outer, ()):
            siblings.setdefault((outer, _star(last)), {})[path] = frozenset(modules)
    return {path for kinds in siblings.values() for path in _pick_kind(kinds)}


def _pick_kind(kinds: dict[str, frozenset[str]]) -> set[str]:
    """Return the blocks that have all the modules of the commonest kind; on a tie, the fewest."""
    counts = Counter(kinds.values())
    kind = min(counts, key=lambda each: (-counts[each], len(each), sorted(each)))
    found = {path for path, modules in kinds.items() if modules >= kind}
    return found if len(found) > 1 else set()
