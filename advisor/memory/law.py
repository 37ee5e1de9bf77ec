"""The memory law fitted to probes: near the largest size one affine piece binds each phase."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from statistics import fmean, linear_regression

from advisor.memory.data import Probe
from advisor.predict.law import AffinePiece, MemoryLaw

#: Sizes above this share of the largest one measured belong to the line that binds there.
_WINDOW_FRACTION = 0.5
#: Least distance between the sizes behind a slope, as a share of the largest: from closer sizes,
#: page granularity (64 KiB to 1 MiB) would pass for a slope.
_SPAN_FRACTION = 0.25


def fit_memory(probes: Sequence[Probe], *, noise_bytes: float = 0.0) -> MemoryLaw | None:
    """Return the law near the largest sizes that ran in the search; None with fewer than two.

    A least-squares line for each phase. Below a kink, and beyond one not yet seen, the peak is
    larger than the law says. Every slope is raised by what an error of `noise_bytes` in each peak
    could hide, turning about the largest size.
    """
    searched = [probe for probe in probes if probe.stage == "memory"]
    phases = attrgetter("forward_backward_peak_bytes"), attrgetter("optimizer_peak_bytes")
    lines = (_fit_phase(find_peaks(searched, phase), noise_bytes) for phase in phases)
    known = tuple(line for line in lines if line is not None)
    return MemoryLaw(known) if known else None


def find_peaks(
    probes: Iterable[Probe],
    read: Callable[[Probe], int | None] = lambda probe: (
        max(probe.step_peak_bytes or 0, probe.peak_allocated_bytes or 0) or None
    ),
) -> dict[int, int]:
    """Return the most bytes that each size was seen to take, in ascending order of the sizes."""
    ran = ((probe.micro_batch_size, read(probe)) for probe in probes if probe.outcome == "fit")
    # Of several at one size the last in order, which is the largest, stays.
    return dict(sorted((size, peak) for size, peak in ran if peak is not None))


def predict_peak_bytes(size: int, peaks: Mapping[int, int], law: MemoryLaw) -> float:
    """Return the peak at a size that was not measured: between its neighbours, beyond them the law.

    That was fitted to the measured `peaks` and holds near the largest size alone: where samples
    differ in size a small size's worst batch takes nearly all that a large one does, or little.
    """
    below = max((each for each in peaks if each < size), default=None)
    above = min((each for each in peaks if each >= size), default=None)
    if above is None:
        return law.predict_bytes(size)
    if below is None:
        return min(law.predict_bytes(size), float(peaks[above]))
    return peaks[below] + (peaks[above] - peaks[below]) * (size - below) / (above - below)


def _fit_phase(peaks: Mapping[int, int], noise_bytes: float) -> AffinePiece | None:
    if len(peaks) < 2:
        return None
    sizes, window = zip(*_choose_window([*peaks.items()]), strict=True)
    slope = max(0.0, linear_regression(sizes, window).slope)
    largest = sizes[-1]
    at_largest = fmean(window) + slope * (largest - fmean(sizes))
    slope += 2.0 * noise_bytes / (largest - sizes[0])
    return AffinePiece(at_largest - slope * largest, slope)


def _choose_window(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """Return the points of the line that binds at the largest size, apart enough for a slope."""
    largest = points[-1][0]
    first = len(points) - 2
    while first > 0 and (
        points[first - 1][0] >= _WINDOW_FRACTION * largest
        or largest - points[first][0] < _SPAN_FRACTION * largest
    ):
        first -= 1
    return points[first:]
