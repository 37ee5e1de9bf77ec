"""Peaks at any size, and the largest size within a limit, from one trace or from several.

A trace of several sizes serves every size. Traces of one size each are joined by straight lines:
every point of a step is affine in the batch size, so its peak is convex, and a line between two
traced sizes is never below the peak in between.
"""

from bisect import bisect_right
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from msgspec.structs import replace

from advisor.predict.data import MOST_SAMPLES, PredictedMemory
from advisor.predict.memory_trace import MemoryTrace
from advisor.predict.pieces import derive_pieces
from advisor.predict.replay import AllocatorSettings, Peaks, draw_scratch, replay_allocator

#: First step down from the upper bound, as its share: the allocator rarely costs more than that.
_STEP_FRACTION = 1 / 32
#: Sizes nearer to each other than this share are not told apart.
_GRANULE_FRACTION = 0.005
#: The least capacity is looked for to this share of it: far below the error of any prediction.
_CAPACITY_TOLERANCE = 0.005


class _Point(NamedTuple):
    """The peaks of a size that was traced alone; `needed_bytes` serve it, its cache given back."""

    size: int
    allocated_bytes: int
    reserved_bytes: int
    needed_bytes: int


class Footprint:
    """The memory of a workload by one trace that serves every size, or several of one size each."""

    def __init__(self, traces: tuple[MemoryTrace, ...], settings: AllocatorSettings) -> None:
        self.settings = settings
        self._general = find_general(traces)
        self._points = sorted(() if self._general else map(self._measure, traces))

    def predict_largest(self, *, capacity_bytes: int, at_most: int = MOST_SAMPLES) -> int:
        """Return a size that fits while the next one does not, or `at_most`; 0 where none fits.

        Near the limit a larger size may fit again, as the allocator splits its blocks otherwise. Of
        a trace that serves every size about 10 simulations, 27 at most.
        """
        trace = self._general
        if trace is None:
            return _find_largest(self._points, capacity_bytes, at_most)
        good = min(_bound_largest(trace, capacity_bytes, self.settings), at_most)
        bad, step = good + 1, max(1, int(good * _STEP_FRACTION))
        while good >= 1 and not self._replay(trace, good, capacity_bytes).fits:
            good, bad, step = (max(1, good - step) if good > 1 else 0), good, 2 * step
        while bad - good > 1 and good >= 1:
            middle = (good + bad) // 2
            fits = self._replay(trace, middle, capacity_bytes).fits
            good, bad = (middle, bad) if fits else (good, middle)
        return good

    def predict_peaks(self, micro_batch_size: int, *, capacity_bytes: int) -> Peaks:
        """Return the peaks at a size: under the limit where it fits, else as if there were none."""
        if self._general is not None:
            peaks = self._replay(self._general, micro_batch_size, capacity_bytes)
            return peaks if peaks.fits else self._replay(self._general, micro_batch_size, None)
        _, allocated, reserved, needed = _read(self._points, micro_batch_size)
        reserved = min(reserved, max(needed, capacity_bytes))
        return Peaks(allocated_bytes=allocated, reserved_bytes=reserved)

    def _measure(self, trace: MemoryTrace) -> _Point:
        """Return the peaks of a traced size, with the least capacity that serves it."""
        (size,) = trace.traced_sizes
        free = self._replay(trace, size, None)
        low, high = free.allocated_bytes, free.reserved_bytes
        while high - low > _CAPACITY_TOLERANCE * high:
            middle = (low + high) // 2
            fits = self._replay(trace, size, middle).fits
            low, high = (low, middle) if fits else (middle, high)
        return _Point(size, free.allocated_bytes, free.reserved_bytes, high)

    def _replay(self, trace: MemoryTrace, size: int, capacity_bytes: int | None) -> Peaks:
        return replay_allocator(trace, size, settings=self.settings, capacity_bytes=capacity_bytes)


def find_general(traces: tuple[MemoryTrace, ...]) -> MemoryTrace | None:
    """Return the trace that serves every size, None without one."""
    return next((trace for trace in traces if trace.serves_every_size), None)


def predict_on_card(
    trace: MemoryTrace, *, capacity_bytes: int, settings: AllocatorSettings
) -> PredictedMemory:
    """Return the peaks with what the card adds to the trace, and what its allocator makes of them.

    One granule above the largest size does not fit in the simulation, so less is usable than that
    peak. Where not even one sample fits, all is as without a simulation.
    """
    # Up to some size the allocator never has to give back its cache. Beyond, what fits lies among
    # sizes that do not, and falls with the next change to the training: the first failure ends it.
    replay = partial(replay_allocator, trace, settings=settings)
    sizes = range(1, _bound_largest(trace, capacity_bytes, settings) + 1)
    largest = bisect_right(
        sizes, capacity_bytes, key=lambda size: replay(size, capacity_bytes=None).reserved_bytes
    )
    while largest < len(sizes):
        size = min(largest + _find_granule(largest), len(sizes))
        if not replay(size, capacity_bytes=capacity_bytes).fits:
            break
        largest = size
    if not largest:
        return derive_pieces(trace)
    prediction = derive_pieces(draw_scratch(trace, largest, settings))
    next_bytes = int(prediction.law.predict_bytes(largest + _find_granule(largest)))
    room = capacity_bytes - settings.sum_workspaces(trace, unseen=True)
    return replace(
        prediction,
        unusable_bytes=max(0, room - (next_bytes - 1)),
        # Pages that come and go make the edge of expandable segments another in each loop.
        largest=None if settings.expandable_segments else largest,
    )


def _bound_largest(trace: MemoryTrace, capacity_bytes: int, settings: AllocatorSettings) -> int:
    """Return the largest size whose tensors and workspaces are within the capacity."""
    return derive_pieces(trace).predict_largest(capacity_bytes - settings.sum_workspaces(trace))


def _find_granule(size: int) -> int:
    return max(1, int(_GRANULE_FRACTION * size))


def _find_largest(points: list[_Point], capacity_bytes: int, at_most: int) -> int:
    """Return the largest size whose needed memory fits, by the lines through the traced sizes.

    Beyond the last point its line goes on, which a convex peak may exceed; below the first nothing
    is known, and one point alone vouches for no larger size.
    """
    first, last = points[0].size, at_most if len(points) > 1 else min(at_most, points[0].size)
    sizes = range(first, max(first, last) + 1)
    fitting = bisect_right(sizes, capacity_bytes, key=lambda size: _read(points, size).needed_bytes)
    return min(last, sizes[fitting - 1]) if fitting else 0


def _read(points: list[_Point], size: int) -> _Point:
    """Return the peaks at a size by the lines through the traced sizes, the outer ones extended."""
    pairs = list(pairwise(points)) or [(points[0], points[0])]
    before, after = next((pair for pair in pairs if size <= pair[1].size), pairs[-1])
    share = (size - before.size) / (after.size - before.size) if len(points) > 1 else 0.0
    return _Point(*(round(a + (b - a) * share) for a, b in zip(before, after, strict=True)))
