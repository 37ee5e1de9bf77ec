"""A trace at one micro-batch size: its peaks, and whether they fit.

The peak of a phase counts from what is held when the phase begins, as a peak counter does that is
reset there.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from advisor.predict.allocator import CachingAllocator, OutOfDeviceMemoryError
from advisor.predict.blocks import Block
from advisor.predict.memory_trace import MemoryTrace, Phase

Integers = npt.NDArray[np.int64]


class AllocatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay takes for granted about the device's allocator.

    Attributes:
        expandable_segments: Whether torch runs with expandable segments.
        extra_bytes: Workspaces that no trace sees, held from the first forward pass on.
    """

    expandable_segments: bool = False
    extra_bytes: int = 0


class Peaks(msgspec.Struct, frozen=True, kw_only=True):
    """The peaks of a replay, in bytes; up to the failed request where it does not fit.

    Attributes:
        forward_backward_bytes: Allocated peak of the forward and backward passes of all steps.
        optimizer_bytes: Allocated peak of the optimizer steps; 0 where the trace has none.
        allocated_bytes: Allocated peak of the whole trace, the setup included.
        reserved_bytes: Most that the allocator held; without an allocator, what was allocated,
            which is the least that any could hold.
        retries: Requests for which the allocator had to give back its cache.
        fits: Whether every request was served.
    """

    forward_backward_bytes: int
    optimizer_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    retries: int = 0
    fits: bool = True


class PhaseSpan(NamedTuple):
    """The events of one phase: from `start` up to, not including, `stop`."""

    phase: Phase
    start: int
    stop: int


def replay_allocated(trace: MemoryTrace, micro_batch_size: int, *, granule_bytes: int = 1) -> Peaks:
    """Return the peaks of the sizes alone, without an allocator; they always fit.

    Args:
        trace: Symbolic, or traced at this very size.
        micro_batch_size: In samples.
        granule_bytes: Every block is rounded up to a multiple of it.

    Raises:
        ValueError: The trace does not hold for the size.
    """
    check_size(trace, micro_batch_size)
    sizes = size_blocks(trace, micro_batch_size)
    sizes = -(-sizes // granule_bytes) * granule_bytes
    levels = accumulate(trace, sizes)
    allocated = int(levels.max())
    return Peaks(
        forward_backward_bytes=int(pick_points(trace, levels, ("forward", "backward")).max()),
        optimizer_bytes=int(pick_points(trace, levels, ("optimizer",)).max()),
        allocated_bytes=allocated,
        reserved_bytes=allocated,
    )


def replay_allocator(
    trace: MemoryTrace,
    micro_batch_size: int,
    *,
    settings: AllocatorSettings,
    capacity_bytes: int | None,
) -> Peaks:
    """Return the peaks under torch's caching allocator, and whether the trace fits.

    Args:
        trace: Symbolic, or traced at this very size.
        micro_batch_size: In samples.
        settings: Of the allocator.
        capacity_bytes: The most that may be reserved; None for no cap.

    Raises:
        ValueError: The trace does not hold for the size.
    """
    check_size(trace, micro_batch_size)
    sizes: list[int] = size_blocks(trace, micro_batch_size).tolist()
    allocator = CachingAllocator(capacity_bytes, expandable_segments=settings.expandable_segments)
    live: dict[int, Block] = {}
    peaks: dict[Phase, int] = {}
    waiting_bytes, fits = settings.extra_bytes, True
    for phase, start, stop in find_spans(trace):
        allocator.reset_peak()
        try:
            if waiting_bytes > 0 and phase == "forward":
                allocator.allocate(waiting_bytes)
                waiting_bytes = 0
            _replay_events(trace.events[start:stop], sizes, allocator, live)
        except OutOfDeviceMemoryError:
            fits = False
        peaks[phase] = max(peaks.get(phase, 0), allocator.peak_allocated_bytes)
        if not fits:
            break
    return Peaks(
        forward_backward_bytes=max(peaks.get("forward", 0), peaks.get("backward", 0)),
        optimizer_bytes=peaks.get("optimizer", 0),
        allocated_bytes=max(peaks.values(), default=0),
        reserved_bytes=allocator.peak_reserved_bytes,
        retries=allocator.retries,
        fits=fits,
    )


def _replay_events(
    events: Iterable[int], sizes: list[int], allocator: CachingAllocator, live: dict[int, Block]
) -> None:
    """Serve the events of one phase; `live` holds the block of every storage that has bytes."""
    for event in events:
        if event >= 0:
            if sizes[event] > 0:
                live[event] = allocator.allocate(sizes[event])
        elif sizes[-1 - event] > 0:
            allocator.free(live.pop(-1 - event))


def check_size(trace: MemoryTrace, micro_batch_size: int) -> None:
    """Do nothing where the trace holds for the size.

    Raises:
        ValueError: It does not, or the size is below 1.
    """
    if micro_batch_size < 1:
        raise ValueError(f"no batch of {micro_batch_size} samples")
    if not trace.serves_every_size and micro_batch_size != trace.traced_sizes[0]:
        raise ValueError(
            f"the trace holds for {trace.traced_sizes[0]} samples, not for {micro_batch_size}"
        )


def read_lines(trace: MemoryTrace) -> tuple[Integers, Integers]:
    """Return the fixed bytes of every block and its bytes per sample."""
    count = len(trace.blocks)
    fixed = np.fromiter((block.fixed_bytes for block in trace.blocks), np.int64, count)
    slopes = np.fromiter((block.bytes_per_sample for block in trace.blocks), np.int64, count)
    return fixed, slopes


def size_blocks(trace: MemoryTrace, micro_batch_size: int) -> Integers:
    """Return the size of every block, in bytes; 0 where its line is below zero."""
    fixed, slopes = read_lines(trace)
    sizes: Integers = np.maximum(fixed + slopes * micro_batch_size, 0)
    return sizes


def accumulate(trace: MemoryTrace, sizes: Integers) -> Integers:
    """Return what is held at every point of the trace: before its first event, then after each.

    Args:
        trace: Gives the events.
        sizes: One number for each block; may be negative.
    """
    events = np.asarray(trace.events, dtype=np.int64)
    levels = np.zeros(len(events) + 1, dtype=np.int64)
    changes = np.where(events >= 0, sizes[events], -sizes[-1 - events])
    np.cumsum(changes, out=levels[1:])
    return levels


def find_spans(trace: MemoryTrace) -> tuple[PhaseSpan, ...]:
    """Return the events of every phase, in order."""
    edges = [*(mark.first_event for mark in trace.phases), len(trace.events)]
    return tuple(
        PhaseSpan(mark.phase, start, stop)
        for mark, (start, stop) in zip(trace.phases, pairwise(edges), strict=True)
    )


def pick_points(trace: MemoryTrace, levels: Integers, phases: tuple[Phase, ...]) -> Integers:
    """Return the levels at the points of some phases; a single 0 where the trace has none.

    The point at which a phase begins belongs to it.
    """
    spans = [span for span in find_spans(trace) if span.phase in phases]
    if not spans:
        return np.zeros(1, dtype=np.int64)
    return np.concatenate([levels[span.start : span.stop + 1] for span in spans])
