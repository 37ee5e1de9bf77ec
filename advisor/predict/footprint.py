"""Peaks at any size, and the largest size within a limit, from one trace or from several.

A trace of several sizes serves every size. Traces of one size each are joined by straight lines:
every point of a step is affine in the batch size, so its peak is convex, and a line between two
traced sizes is never below the peak in between.
"""

import itertools

import msgspec

from advisor.predict.largest import predict_largest
from advisor.predict.memory_trace import MemoryTrace
from advisor.predict.replay import AllocatorSettings, replay_allocator

#: The least capacity is looked for to this share of it: far below the error of any prediction.
_CAPACITY_TOLERANCE = 0.005


class Peak(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of a training step at one size, in bytes.

    Attributes:
        allocated_bytes: Peak of all tensors.
        reserved_bytes: Peak of the allocator.
        needed_bytes: The least that the allocator must be granted; less than `reserved_bytes` where
            it gives back its cache under pressure.
    """

    micro_batch_size: int
    allocated_bytes: int
    reserved_bytes: int
    needed_bytes: int


class Footprint:
    """The memory of one workload under one allocator.

    Args:
        traces: One that serves every size, or any number of one size each; at least one.
        settings: Of the allocator.
    """

    def __init__(self, traces: tuple[MemoryTrace, ...], settings: AllocatorSettings) -> None:
        self._general = find_general(traces)
        self._settings = settings
        self._by_size = {} if self._general else {t.traced_sizes[0]: t for t in traces}
        self._points = tuple(self._measure(size) for size in sorted(self._by_size))

    def trace_at(self, micro_batch_size: int) -> MemoryTrace | None:
        """Return the trace that holds for this very size; None where there is none."""
        return self._general or self._by_size.get(micro_batch_size)

    def largest(self, *, capacity_bytes: int, at_most: int) -> int:
        """Return the largest size up to `at_most` that fits; 0 where none does."""
        if capacity_bytes <= 0:
            return 0
        if self._general is None:
            return largest_between(self._points, capacity_bytes, at_most)
        capped = replay_allocator(
            self._general, at_most, settings=self._settings, capacity_bytes=capacity_bytes
        )
        if capped.fits:
            return at_most
        largest = predict_largest(
            self._general, capacity_bytes=capacity_bytes, settings=self._settings
        )
        return min(at_most, largest or 0)

    def peak(self, micro_batch_size: int, *, capacity_bytes: int) -> Peak:
        """Return the peaks at a size: under the limit where it fits, else as if there were none."""
        if self._general is not None:
            return self._replay(self._general, micro_batch_size, capacity_bytes)
        peak = peak_between(self._points, micro_batch_size)
        held = min(peak.reserved_bytes, max(peak.needed_bytes, capacity_bytes))
        return msgspec.structs.replace(peak, reserved_bytes=held)

    def _measure(self, size: int) -> Peak:
        """Return the peaks of a traced size, with the least capacity that serves it."""
        trace, free = self._by_size[size], self._replay(self._by_size[size], size, None)
        low, high = free.allocated_bytes, free.reserved_bytes
        while high - low > _CAPACITY_TOLERANCE * high:
            middle = (low + high) // 2
            peaks = replay_allocator(trace, size, settings=self._settings, capacity_bytes=middle)
            low, high = (low, middle) if peaks.fits else (middle, high)
        return msgspec.structs.replace(free, needed_bytes=high)

    def _replay(self, trace: MemoryTrace, size: int, capacity_bytes: int | None) -> Peak:
        peaks = replay_allocator(
            trace, size, settings=self._settings, capacity_bytes=capacity_bytes
        )
        if not peaks.fits:
            peaks = replay_allocator(trace, size, settings=self._settings, capacity_bytes=None)
        return Peak(
            micro_batch_size=size,
            allocated_bytes=peaks.allocated_bytes,
            reserved_bytes=peaks.reserved_bytes,
            needed_bytes=peaks.reserved_bytes,
        )


def find_general(traces: tuple[MemoryTrace, ...]) -> MemoryTrace | None:
    """Return the trace that serves every size, None without one."""
    return next((trace for trace in traces if trace.serves_every_size), None)


def largest_between(points: tuple[Peak, ...], capacity_bytes: int, at_most: int) -> int:
    """Return the largest size whose needed memory fits, by the lines through the traced sizes.

    Beyond the last point its line goes on, which a convex peak may exceed. Below the first nothing
    is known, so nothing fits where the first does not.

    Args:
        points: At least one, by size.
        capacity_bytes: What tensors may take.
        at_most: No larger size is returned.

    Source: derived; interpolation of a convex function.
    """
    if points[0].needed_bytes > capacity_bytes:
        return 0
    for before, after in itertools.pairwise(points):
        if after.needed_bytes > capacity_bytes:
            return min(at_most, _solve(before, after, capacity_bytes))
    if len(points) == 1:
        return min(at_most, points[0].micro_batch_size)
    before, after = points[-2:]
    if after.needed_bytes <= before.needed_bytes:
        return at_most
    return min(at_most, _solve(before, after, capacity_bytes))


def peak_between(points: tuple[Peak, ...], micro_batch_size: int) -> Peak:
    """Return the peaks at a size by the lines through the traced sizes, the outer ones extended.

    Args:
        points: At least one, by size.
        micro_batch_size: In samples.

    Source: derived.
    """
    if len(points) == 1:
        return points[0]
    pairs = list(itertools.pairwise(points))
    inside = (pair for pair in pairs if micro_batch_size <= pair[1].micro_batch_size)
    before, after = next(inside, pairs[-1])
    share = (micro_batch_size - before.micro_batch_size) / (
        after.micro_batch_size - before.micro_batch_size
    )
    return Peak(
        micro_batch_size=micro_batch_size,
        allocated_bytes=_along(before.allocated_bytes, after.allocated_bytes, share),
        reserved_bytes=_along(before.reserved_bytes, after.reserved_bytes, share),
        needed_bytes=_along(before.needed_bytes, after.needed_bytes, share),
    )


def _solve(before: Peak, after: Peak, capacity_bytes: int) -> int:
    samples = after.micro_batch_size - before.micro_batch_size
    growth = after.needed_bytes - before.needed_bytes
    return before.micro_batch_size + (capacity_bytes - before.needed_bytes) * samples // growth


def _along(start_bytes: int, end_bytes: int, share: float) -> int:
    return round(start_bytes + (end_bytes - start_bytes) * share)
