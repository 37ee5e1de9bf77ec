"""The book of one trace: blocks as they come and go, in order, phase by phase."""

from collections.abc import Iterator

import msgspec

from advisor.predict.memory_trace import Category, Operators, Phase, PhaseMark

#: Which category wins where a storage is several, first the strongest.
_STRENGTH: tuple[Category, ...] = (
    "parameter",
    "input",
    "gradient",
    "optimizer_state",
    "activation",
    "temporary",
)


class SizedBlock(msgspec.Struct, array_like=True):
    """One storage at one batch size.

    Attributes:
        size_bytes: Its size, unrounded.
        operator: The operator that made it; empty for what was there before the first step.
        module: As in `TraceBlock`.
        category: As in `TraceBlock`.
    """

    size_bytes: int
    operator: str
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
    flops: int | None = None
    notes: tuple[str, ...] = ()
    checkpointed: tuple[str, ...] = ()


class Ledger:
    """Blocks by the order in which they were allocated, and the events so far.

    Attributes:
        phase: The present one.
        is_open: Whether events are still written down.
    """

    def __init__(self) -> None:
        self.phase: Phase = "setup"
        self.is_open = True
        self._blocks: list[SizedBlock] = []
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
        index = len(self._blocks)
        self._blocks.append(SizedBlock(size_bytes, operator, module))
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
        """Say what a block holds; the strongest category stays."""
        block = self._blocks[index]
        block.category = min(category, block.category, key=_STRENGTH.index)

    def size_bytes(self, index: int | None) -> int:
        """Return the size of a block, 0 for none."""
        return 0 if index is None else self._blocks[index].size_bytes

    def replace(self, old: int, new: int) -> None:
        """Write down that `new` took the place of `old`, which is gone."""
        self.label(new, self._blocks[old].category)
        self.free(old)

    def move(self, index: int, module: int) -> None:
        """Say to which module a block belongs."""
        self._blocks[index].module = module

    def finish(
        self,
        micro_batch_size: int,
        *,
        operators: Operators,
        modules: tuple[str, ...],
        flops: int | None,
        notes: tuple[str, ...],
    ) -> SizeTrace:
        """Return the trace; what happens from here on is not written down."""
        self.is_open = False
        used = [event for event in self._events if event >= 0]
        number = {index: position for position, index in enumerate(used)}
        events = [number[e] if e >= 0 else -1 - number[-1 - e] for e in self._events]
        return SizeTrace(
            operators=operators,
            micro_batch_size=micro_batch_size,
            blocks=tuple(self._blocks[index] for index in used),
            events=tuple(_order_frees(events, {mark.first_event for mark in self._phases})),
            phases=tuple(self._phases),
            modules=modules,
            flops=flops,
            notes=notes,
        )


def _order_frees(events: list[int], bounds: set[int]) -> Iterator[int]:
    """Yield the events, blocks that are freed one after the other by age.

    Their true order may hang on addresses, as where autocast drops its cached casts; what is held
    at any allocation is the same.
    """
    run: list[int] = []
    for position, event in enumerate(events):
        if event >= 0 or position in bounds:
            yield from sorted(run, reverse=True)
            run = []
        if event >= 0:
            yield event
        else:
            run.append(event)
    yield from sorted(run, reverse=True)
