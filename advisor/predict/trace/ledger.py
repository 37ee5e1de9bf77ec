"""The book of one trace: blocks as they come and go, in order, phase by phase."""

from itertools import accumulate
from typing import Any, get_args

from msgspec.structs import replace

from advisor.predict.buffers import EmbeddingGradient, Reduction
from advisor.predict.memory_trace import (
    Category,
    MemoryTrace,
    Operators,
    Phase,
    PhaseMark,
    TraceBlock,
)

Buffer = Reduction | EmbeddingGradient


class SizeTrace(MemoryTrace, frozen=True, kw_only=True):
    """The trace of one size, with the operator that made each block; "" where none did."""

    made_by: tuple[str, ...]


class Ledger:
    """Blocks by the order in which they were allocated, and the events so far."""

    def __init__(self) -> None:
        self.phase: Phase = "setup"
        self.is_open = True  #: Whether events are still written down.
        self._blocks: list[TraceBlock] = []
        self._made_by: list[str] = []
        self._events: list[int] = []
        self._buffers: list[Buffer] = []
        self._workspaces: dict[Phase, int] = {}
        self._phases = [PhaseMark("setup", 0, 0)]

    def begin(self, phase: Phase, step: int) -> None:
        """Begin a phase; the backward pass makes what the forward pass left activations."""
        if phase == "backward":
            seen = set(self._events[self._phases[-1].first_event :])
            for index in seen:
                if index >= 0 and -1 - index not in seen:
                    self.label(index, "activation")
        self.phase = phase
        self._phases.append(PhaseMark(phase, step, len(self._events)))

    def allocate(self, size_bytes: int, operator: str, module: int) -> int:
        """Write down a new block and return its index."""
        index = len(self._blocks)
        self._blocks.append(TraceBlock(size_bytes, 0, "temporary", module))
        self._made_by.append(operator)
        self._events.append(index)
        return index

    def take_buffer(self, buffer: Buffer, operator: str, module: int) -> None:
        """Write down a buffer, gone at once, whose size follows a rule of its own."""
        self._buffers.append(replace(buffer, block=self.allocate(0, operator, module)))
        self.free(self._buffers[-1].block)

    def take_workspace(self, operator: str) -> None:
        """Write down the workspace of the thread of this phase, where it multiplies for once."""
        if self.phase in ("forward", "backward") and self.phase not in self._workspaces:
            self._workspaces[self.phase] = self.allocate(0, operator, -1)

    def free(self, index: int) -> None:
        """Write down that a block is gone."""
        if self.is_open:
            self._events.append(-1 - index)

    def take_back(self, index: int) -> None:
        """Strike out an allocation, as if the block had never been."""
        self._events.remove(index)

    def label(self, index: int, category: Category, module: int | None = None) -> None:
        """Say what a block holds, of several categories the first in their order, and for whom."""
        block = self._blocks[index]
        strongest = min(category, block.category, key=get_args(Category).index)
        module = block.module if module is None else module
        self._blocks[index] = replace(block, category=strongest, module=module)

    def replace(self, old: int, new: int | None) -> None:
        """Write down that `new` took the place of `old`, which is gone."""
        if new is not None:
            self.label(new, self._blocks[old].category)
        self.free(old)

    def size_bytes(self, index: int | None) -> int:
        """Return the size of a block, 0 for none."""
        return 0 if index is None else self._blocks[index].fixed_bytes

    def finish(self, micro_batch_size: int, *, operators: Operators, **facts: Any) -> SizeTrace:
        """Return the trace; what happens from here on is not written down.

        Blocks freed one after the other are freed by age: their true order may hang on addresses,
        as where autocast drops its cached casts. What is held at any allocation is the same.
        """
        self.is_open = False
        used = [event for event in self._events if event >= 0]
        number = {index: position for position, index in enumerate(used)}
        events = [number[e] if e >= 0 else -1 - number[-1 - e] for e in self._events]
        bounds = {mark.first_event for mark in self._phases}
        runs = accumulate((e >= 0) + (place in bounds) for place, e in enumerate(events))
        in_order = sorted(zip(runs, events, strict=True), key=lambda pair: (pair[0], -pair[1]))
        workspaces = tuple(number[each] for each in self._workspaces.values())
        buffers = [replace(each, block=number[each.block]) for each in self._buffers]
        return SizeTrace(
            operators=operators,
            reductions=tuple(each for each in buffers if isinstance(each, Reduction)),
            embeddings=tuple(each for each in buffers if isinstance(each, EmbeddingGradient)),
            workspaces=workspaces if operators == "cuda" else None,
            method="per_size",
            traced_sizes=(micro_batch_size,),
            blocks=tuple(self._blocks[index] for index in used),
            made_by=tuple(self._made_by[index] for index in used),
            events=tuple(event for _, event in in_order),
            phases=tuple(self._phases),
            flops_per_sample=0,
            **facts,
        )
