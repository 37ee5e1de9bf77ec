"""The book of one trace: blocks as they come and go, in order, phase by phase."""

from itertools import accumulate
from typing import get_args

import msgspec

from advisor.predict.memory_trace import Category, Operators, Phase, PhaseMark


class SizedBlock(msgspec.Struct, array_like=True):
    """One storage at one batch size, unrounded; `module` and `category` as in `TraceBlock`."""

    size_bytes: int
    operator: str  #: That made it; empty for what was there before the first step.
    module: int
    category: Category = "temporary"


class SizeTrace(msgspec.Struct, frozen=True, kw_only=True):
    """The allocations of three training steps at one batch size; fields as in `MemoryTrace`."""

    operators: Operators
    micro_batch_size: int
    blocks: tuple[SizedBlock, ...]
    events: tuple[int, ...]
    phases: tuple[PhaseMark, ...]
    modules: tuple[str, ...]
    flops: int = 0
    notes: tuple[str, ...] = ()
    checkpointed: tuple[str, ...] = ()


class Ledger:
    """Blocks by the order in which they were allocated, and the events so far."""

    def __init__(self) -> None:
        self.phase: Phase = "setup"
        self.is_open = True  #: Whether events are still written down.
        self.blocks: list[SizedBlock] = []
        self._events: list[int] = []
        self._alive: set[int] = set()
        self._phases = [PhaseMark("setup", 0, 0)]

    def begin(self, phase: Phase, step: int) -> None:
        """Begin a phase; the backward pass makes what the forward pass left activations."""
        if phase == "backward":
            made = {event for event in self._events[self._phases[-1].first_event :] if event >= 0}
            for index in made & self._alive:
                self.label(index, "activation")
        self.phase = phase
        self._phases.append(PhaseMark(phase, step, len(self._events)))

    def allocate(self, size_bytes: int, operator: str, module: int) -> int:
        """Write down a new block and return its index."""
        index = len(self.blocks)
        self.blocks.append(SizedBlock(size_bytes, operator, module))
        self._events.append(index)
        self._alive.add(index)
        return index

    def free(self, index: int) -> None:
        """Write down that a block is gone."""
        self._alive.discard(index)
        if self.is_open:
            self._events.append(-1 - index)

    def take_back(self, index: int) -> None:
        """Strike out an allocation, as if the block had never been."""
        self._alive.discard(index)
        self._events.remove(index)

    def label(self, index: int, category: Category) -> None:
        """Say what a block holds; of several categories the first in their order stays."""
        block = self.blocks[index]
        block.category = min(category, block.category, key=get_args(Category).index)

    def finish(
        self,
        micro_batch_size: int,
        *,
        operators: Operators,
        modules: tuple[str, ...] = (),
        flops: int = 0,
        notes: tuple[str, ...] = (),
    ) -> SizeTrace:
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
        return SizeTrace(
            operators=operators,
            micro_batch_size=micro_batch_size,
            blocks=tuple(self.blocks[index] for index in used),
            events=tuple(event for _, event in in_order),
            phases=tuple(self._phases),
            modules=modules,
            flops=flops,
            notes=notes,
        )
