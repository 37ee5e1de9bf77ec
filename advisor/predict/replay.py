"""A trace at one micro-batch size: what is held at each of its points, and what is reserved for it.

The point at which a phase begins belongs to it, as for a peak counter that is reset there.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from advisor.device.catalogue import Gpu
from advisor.predict.allocator import Block, CachingAllocator, OutOfDeviceMemoryError
from advisor.predict.buffers import Card, find_card
from advisor.predict.memory_trace import MemoryTrace, PhaseMark

#: Handles with a workspace each: that of the forward pass and that of autograd's thread.
_WORKSPACES = 2

#: At most so many further steps, like the last, are replayed until one takes nothing more; all of
#: them where the cache had to be given back, which may fail at any.
_MORE_STEPS = 8

Integers = npt.NDArray[np.int64]


class AllocatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay takes for granted about the device's allocator."""

    expandable_segments: bool = False
    #: Of a matrix library in each thread, held from its first product on; from the first forward
    #: pass on where no trace says.
    workspace_bytes: int = 0
    #: None leaves the buffers of reductions out.
    card: Card | None = None

    @classmethod
    def of(cls, gpu: Gpu | None, *, expandable_segments: bool) -> Self:
        """Return those on a card; None where it is not known."""
        return cls(
            expandable_segments=expandable_segments,
            workspace_bytes=0 if gpu is None else gpu.workspace_bytes,
            card=find_card(gpu),
        )

    def sum_workspaces(self, trace: MemoryTrace, *, unseen: bool = False) -> int:
        """Return what all workspaces take, or those that no block of the trace stands for."""
        if trace.workspaces is None:
            return _WORKSPACES * self.workspace_bytes
        return 0 if unseen else len(trace.workspaces) * self.workspace_bytes


class Peaks(msgspec.Struct, frozen=True, kw_only=True):
    """The peaks of training steps; up to the failed request where they do not fit."""

    allocated_bytes: int
    reserved_bytes: int
    fits: bool = True


def replay_allocator(
    trace: MemoryTrace,
    micro_batch_size: int,
    *,
    settings: AllocatorSettings,
    capacity_bytes: int | None,
) -> Peaks:
    """Return the peaks under torch's caching allocator; the trace must hold for the size."""
    sizes: list[int] = size_blocks(trace, micro_batch_size).tolist()
    for block, size in size_scratch(trace, micro_batch_size, settings).items():
        sizes[block] = size
    allocator = CachingAllocator(capacity_bytes, expandable_segments=settings.expandable_segments)
    fits = True
    try:
        _replay(trace, sizes, allocator, settings.sum_workspaces(trace, unseen=True))
    except OutOfDeviceMemoryError:
        fits = False
    return Peaks(
        allocated_bytes=allocator.peak_allocated_bytes,
        reserved_bytes=allocator.peak_reserved_bytes,
        fits=fits,
    )


def size_scratch(
    trace: MemoryTrace, micro_batch_size: int, settings: AllocatorSettings
) -> dict[int, int]:
    """Return the bytes of blocks that the trace alone does not size: buffers and workspaces."""
    sizes = dict.fromkeys(trace.workspaces or (), settings.workspace_bytes)
    for gradient in trace.embeddings:
        sizes[gradient.block] = gradient.size_buffer(micro_batch_size)
    if settings.card is not None:
        for reduction in trace.reductions:
            sizes[reduction.block] = reduction.size_buffer(micro_batch_size, settings.card)
    return sizes


def draw_scratch(
    trace: MemoryTrace, micro_batch_size: int, settings: AllocatorSettings
) -> MemoryTrace:
    """Return the trace with lines for these blocks too, which hold from half the size up to it.

    The bytes of a buffer are no affine function of the batch: they end where the card is full.
    """
    blocks, low = list(trace.blocks), (micro_batch_size + 1) // 2
    at_low, at_size = (size_scratch(trace, size, settings) for size in (low, micro_batch_size))
    for place, size in at_size.items():
        slope = (size - at_low[place]) // max(1, micro_batch_size - low)
        blocks[place] = replace(
            blocks[place], fixed_bytes=size - slope * micro_batch_size, bytes_per_sample=slope
        )
    return replace(trace, blocks=tuple(blocks))


def _replay(
    trace: MemoryTrace, sizes: list[int], allocator: CachingAllocator, extra_bytes: int
) -> None:
    live: dict[int, Block] = {}
    last: Sequence[int] = ()
    for mark, span in find_spans(trace):
        if mark.phase == "forward":
            last = trace.events[span.start :]
            if extra_bytes > 0:
                allocator.allocate(extra_bytes)
                extra_bytes = 0
        _run(trace.events[span], sizes, allocator, live)
    # What a further step frees and did not make is what the step before left in its place.
    made, freed = (
        {place for place in places if sizes[place] > 0}
        for places in ({e for e in last if e >= 0}, {-1 - e for e in last if e < 0})
    )
    old, new = sorted(freed - made), sorted(made - freed)
    if [sizes[block] for block in old] != [sizes[block] for block in new]:
        return  # such a step cannot be repeated
    for _ in range(_MORE_STEPS):
        before = allocator.peak_reserved_bytes
        live |= {block: live.pop(successor) for block, successor in zip(old, new, strict=True)}
        _run(last, sizes, allocator, live)
        if before == allocator.peak_reserved_bytes and not allocator.retries:
            return


def _run(
    events: Sequence[int], sizes: list[int], allocator: CachingAllocator, live: dict[int, Block]
) -> None:
    for event in events:
        if event >= 0:
            if sizes[event] > 0:
                live[event] = allocator.allocate(sizes[event])
        elif sizes[-1 - event] > 0:
            allocator.free(live.pop(-1 - event))


def read_lines(trace: MemoryTrace) -> tuple[Integers, Integers]:
    """Return the fixed bytes of every block and its bytes per sample."""
    count = len(trace.blocks)
    fixed = np.fromiter((block.fixed_bytes for block in trace.blocks), np.int64, count)
    slopes = np.fromiter((block.bytes_per_sample for block in trace.blocks), np.int64, count)
    return fixed, slopes


def size_blocks(trace: MemoryTrace, micro_batch_size: int) -> Integers:
    """Return the size of every block, in bytes; 0 where its line is below zero.

    Raises ValueError where the trace does not hold for the size.
    """
    if micro_batch_size < 1:
        raise ValueError(f"no batch of {micro_batch_size} samples")
    if not trace.serves_every_size and micro_batch_size != trace.traced_sizes[0]:
        raise ValueError(
            f"the trace holds for {trace.traced_sizes[0]} samples, not for {micro_batch_size}"
        )
    fixed, slopes = read_lines(trace)
    sizes: Integers = np.maximum(fixed + slopes * micro_batch_size, 0)
    return sizes


def sum_up(trace: MemoryTrace, sizes: Integers) -> Integers:
    """Return what is held at every point of the trace: before its first event, then after each."""
    events = np.asarray(trace.events, dtype=np.int64)
    changes = np.where(events >= 0, sizes[events], -sizes[-1 - events])
    levels: Integers = np.cumsum(np.concatenate([[0], changes]))
    return levels


def find_spans(trace: MemoryTrace) -> Iterator[tuple[PhaseMark, slice]]:
    """Yield every phase with the place of its events, in order."""
    edges = [*(mark.first_event for mark in trace.phases), len(trace.events)]
    for mark, edge in zip(trace.phases, pairwise(edges), strict=True):
        yield mark, slice(*edge)
