"""The largest micro-batch that fits a device by its trace and the allocator's simulation."""

from collections.abc import Callable

from advisor.predict.memory_trace import AffinePiece, MemoryTrace
from advisor.predict.pieces import derive_pieces, predict_bytes
from advisor.predict.replay import AllocatorSettings, Peaks, replay_allocator

#: Sizes above it are not looked for: kernels index with 32 bits long before.
MOST_SAMPLES = 1 << 20
#: First step down from the upper bound, as its share. The allocator rarely costs more than a few
#: percent, so one or two steps bracket the answer.
_STEP_FRACTION = 1 / 32


def predict_largest(
    trace: MemoryTrace, *, capacity_bytes: int, settings: AllocatorSettings
) -> int | None:
    """Return a size that fits while the next one does not; None where not even one sample fits.

    Which sizes fit is not strictly monotone near the limit, because the allocator splits its blocks
    differently at each: a larger size may fit again. The answer is the one that stepping down from
    the largest size whose allocated bytes are within the capacity, and then bisection, end on. It
    is `MOST_SAMPLES` where that many fit. About 10 simulations, 27 at most.

    Args:
        trace: Symbolic.
        capacity_bytes: The most that the allocator may reserve.
        settings: Of the allocator.

    Raises:
        ValueError: The trace holds for one size only.

    Source: derived.
    """
    return _find_largest(trace, capacity_bytes, settings, lambda peaks: peaks.fits)


def predict_largest_without_retries(
    trace: MemoryTrace, *, capacity_bytes: int, settings: AllocatorSettings
) -> int | None:
    """Return like `predict_largest`, but of the sizes at which the allocator keeps its cache.

    A request that is served only after the cache was given back waits for the device, in every
    step. Arguments and errors are those of `predict_largest`.

    Source: derived.
    """
    return _find_largest(
        trace, capacity_bytes, settings, lambda peaks: peaks.fits and peaks.retries == 0
    )


def predict_unusable_bytes(
    trace: MemoryTrace, *, capacity_bytes: int, settings: AllocatorSettings
) -> int:
    """Return what of the capacity the allocator cannot use for the trace's blocks.

    The least amount by which the capacity must be lowered so that the allocated peaks alone give
    the answer of `predict_largest`. Arguments and errors are those of `predict_largest`.

    Source: derived.
    """
    largest = predict_largest(trace, capacity_bytes=capacity_bytes, settings=settings) or 0
    next_peak_bytes = max(predict_bytes(derive_pieces(trace), largest + 1))
    return max(0, capacity_bytes - settings.extra_bytes - next_peak_bytes + 1)


def _find_largest(
    trace: MemoryTrace,
    capacity_bytes: int,
    settings: AllocatorSettings,
    accepts: Callable[[Peaks], bool],
) -> int | None:
    prediction = derive_pieces(trace)
    pieces = prediction.forward_backward + prediction.optimizer
    bound = find_upper_bound(pieces, capacity_bytes - settings.extra_bytes)

    def is_accepted(size: int) -> bool:
        peaks = replay_allocator(trace, size, settings=settings, capacity_bytes=capacity_bytes)
        return accepts(peaks)

    good, bad = bound, bound + 1
    step = max(1, int(bound * _STEP_FRACTION))
    while good >= 1 and not is_accepted(good):
        good, bad, step = (max(1, good - step) if good > 1 else 0), good, 2 * step
    while bad - good > 1 and good >= 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if is_accepted(middle) else (good, middle)
    return good if good >= 1 else None


def find_upper_bound(pieces: tuple[AffinePiece, ...], capacity_bytes: int) -> int:
    """Return the largest size at which every piece is within the capacity; 0 where there is none.

    A convex function is within it from some size to another, so falling pieces only matter where
    the bound is low: the simulation sees to them.
    """
    bound = MOST_SAMPLES
    for piece in pieces:
        room = capacity_bytes - piece.fixed_bytes
        if piece.bytes_per_sample > 0:
            bound = min(bound, room // piece.bytes_per_sample)
        elif piece.bytes_per_sample == 0 and room < 0:
            return 0
    return max(0, bound)
