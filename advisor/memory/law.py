"""The memory law of a training step, and what the memory probes say about the largest size.

Every point of a training step holds an amount of memory that is affine in the micro-batch size, so
the peak is a convex maximum of affine pieces. Near the largest size one piece binds in each phase.
"""

from collections.abc import Sequence
from itertools import groupby
from math import floor
from operator import itemgetter

import msgspec

from advisor.memory.data import MemoryConclusion, MemoryMethod, Probe
from advisor.predict.data import LimitedBy

#: Widest gap between a size that ran and one that did not, as a share of the first, that leaves no
#: size of interest between them: the answer is then within 1 % of the largest that fits.
RESOLUTION_FRACTION = 0.01
#: Sizes above this share of the largest one measured belong to the piece that binds there.
_WINDOW_FRACTION = 0.5
#: Least distance between the sizes behind a slope, as a share of the largest: from closer sizes,
#: page granularity (64 KiB to 1 MiB) would pass for a slope.
_SPAN_FRACTION = 0.25

_Point = tuple[int, float]


class AffineLaw(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of one phase of a training step: fixed_bytes + bytes_per_sample · size."""

    fixed_bytes: float
    bytes_per_sample: float

    def predict_bytes(self, micro_batch_size: float) -> float:
        """Return the peak of the phase at a size."""
        return self.fixed_bytes + self.bytes_per_sample * micro_batch_size

    def predict_largest(self, capacity_bytes: float) -> int | None:
        """Return the largest size whose peak is within the capacity; None where any size is."""
        if self.bytes_per_sample <= 0.0:
            return None if self.fixed_bytes <= capacity_bytes else 0
        return max(0, floor((capacity_bytes - self.fixed_bytes) / self.bytes_per_sample))


class MemoryLaw(msgspec.Struct, frozen=True, kw_only=True):
    """Peak memory of a training step: the larger of its phases.

    Attributes:
        forward_backward: From the start of a step to its optimizer step; None where not measured.
        optimizer: The optimizer step; None where not measured.
    """

    forward_backward: AffineLaw | None
    optimizer: AffineLaw | None

    def predict_bytes(self, micro_batch_size: float) -> float:
        """Return the peak at a size, in bytes beyond the idle process."""
        return self.binding_phase(micro_batch_size).predict_bytes(micro_batch_size)

    def predict_largest(self, capacity_bytes: float) -> int | None:
        """Return the largest size whose peak is within the capacity; None where any size is."""
        sizes = [phase.predict_largest(capacity_bytes) for phase in self._phases()]
        return min((size for size in sizes if size is not None), default=None)

    def binding_phase(self, micro_batch_size: float) -> AffineLaw:
        """Return the phase that sets the peak at a size."""
        return max(self._phases(), key=lambda phase: phase.predict_bytes(micro_batch_size))

    def _phases(self) -> list[AffineLaw]:
        return [phase for phase in (self.forward_backward, self.optimizer) if phase is not None]


def fit_memory(probes: Sequence[Probe], *, noise_bytes: float = 0.0) -> MemoryLaw | None:
    """Return the memory law near the largest sizes that ran; None with fewer than two sizes.

    A least-squares line for each phase, through the sizes above half of the largest one, and
    through smaller ones only where those lie too close together for a slope. It assumes that no
    other piece of the peak takes over above the largest size; below a kink, and beyond one not yet
    seen, the peak is larger than the line says.

    Args:
        probes: Only those of the memory stage that ran to their end count.
        noise_bytes: Error that each measured peak may have; every slope is raised by what it could
            hide, turning about the largest size. 0 gives the line itself.

    Source: derived; the window is the last segment of the upper hull, averaged.
    """
    ran = _select(probes, "fit")
    forward_backward = _fit_phase(
        [(p.micro_batch_size, p.forward_backward_peak_bytes) for p in ran], noise_bytes
    )
    optimizer = _fit_phase([(p.micro_batch_size, p.optimizer_peak_bytes) for p in ran], noise_bytes)
    if forward_backward is None and optimizer is None:
        return None
    return MemoryLaw(forward_backward=forward_backward, optimizer=optimizer)


def is_gap_closed(
    ran: int,
    failed: int,
    batch_multiple: int,
    resolution_fraction: float = RESOLUTION_FRACTION,
) -> bool:
    """Return whether no size of interest lies between one that ran and one that did not.

    Args:
        ran: The smaller size.
        failed: The larger size.
        batch_multiple: Only multiples of this size are of interest.
        resolution_fraction: Widest gap of no interest, as a share of the smaller size.

    Source: derived: the largest size that fits is below `failed`, so `ran` is within that share.
    """
    return failed - ran <= max(batch_multiple, resolution_fraction * ran)


def conclude_memory(
    probes: Sequence[Probe],
    *,
    capacity_bytes: int | None,
    headroom_bytes: int,
    dataset_size: int | None,
    max_micro_batch_size: int | None,
    batch_multiple: int = 1,
    complete: bool = True,
    method: MemoryMethod = "affine",
) -> MemoryConclusion:
    """Return the largest size that ran, and what ends the search there.

    It is verified where a size not more than the resolution above was seen not to fit, or where the
    dataset or the user's cap allows none above. A wider gap is not verified.

    Args:
        probes: All probes of the run; those of other stages do not count.
        capacity_bytes: The enforced limit, headroom already taken off.
        headroom_bytes: Kept free below the limit.
        dataset_size: Samples in the dataset; None where unknown.
        max_micro_batch_size: The user's cap; None without one.
        batch_multiple: Only multiples of this size were tried.
        complete: False where the search was stopped before it was done.
        method: What led the search.

    Source: derived.
    """
    memory_probes = [probe for probe in probes if probe.stage == "memory"]
    ran = max((p.micro_batch_size for p in _select(probes, "fit")), default=None)
    failed_sizes = [p.micro_batch_size for p in _select(probes, "oom", "spill")]
    failed_above = min((size for size in failed_sizes if ran is None or size > ran), default=None)
    verified, limited_by = _judge(
        ran,
        failed_above,
        batch_multiple=batch_multiple,
        bound=_find_bound(dataset_size, max_micro_batch_size, batch_multiple),
        complete=complete,
    )
    law = fit_memory(memory_probes)
    phase = None if law is None or ran is None else law.binding_phase(ran)
    return MemoryConclusion(
        max_micro_batch_size=ran,
        verified=verified,
        limited_by=limited_by,
        # A line that falls below zero is a local slope, not a fixed amount that something takes.
        fixed_bytes=None if phase is None or phase.fixed_bytes < 0.0 else phase.fixed_bytes,
        bytes_per_sample=None if phase is None else phase.bytes_per_sample,
        capacity_bytes=capacity_bytes,
        headroom_bytes=headroom_bytes,
        smallest_failed=min(failed_sizes, default=None),
        probes=len(memory_probes),
        ooms=len(failed_sizes),
        upper_bound=failed_above,
        largest_without_retries=max(
            (p.micro_batch_size for p in _select(probes, "fit") if p.alloc_retries == 0),
            default=None,
        ),
        headroom_at_max_bytes=_find_headroom_bytes(_select(probes, "fit"), capacity_bytes),
        method=method,
    )


def _judge(
    ran: int | None,
    failed: int | None,
    *,
    batch_multiple: int,
    bound: tuple[int, LimitedBy] | None,
    complete: bool,
) -> tuple[bool, LimitedBy]:
    """Return whether the largest size is verified, and what ends the search."""
    if ran is not None and bound is not None and ran >= bound[0]:
        return True, bound[1]
    if ran is not None and failed is not None and is_gap_closed(ran, failed, batch_multiple):
        return True, "memory"
    if failed is not None and (complete or ran is None):
        return False, "memory"
    return False, "budget"


def _find_bound(
    dataset_size: int | None, max_micro_batch_size: int | None, batch_multiple: int
) -> tuple[int, LimitedBy] | None:
    """Return the largest multiple that dataset and user allow, and which of them is the tighter."""
    bounds: list[tuple[int, LimitedBy]] = []
    if dataset_size is not None:
        bounds.append((dataset_size, "dataset"))
    if max_micro_batch_size is not None:
        bounds.append((max_micro_batch_size, "cap"))
    if not bounds:
        return None
    size, limiter = min(bounds, key=itemgetter(0))
    return size // batch_multiple * batch_multiple, limiter


def _find_headroom_bytes(ran: Sequence[Probe], capacity_bytes: int | None) -> int | None:
    """Return what the largest size leaves of the limit, by the count nearest to the limit's own."""
    if capacity_bytes is None or not ran:
        return None
    size = max(probe.micro_batch_size for probe in ran)
    peaks = [
        peak
        for probe in ran
        if probe.micro_batch_size == size and (peak := find_peak_bytes(probe)) is not None
    ]
    return max(0, capacity_bytes - max(peaks)) if peaks else None


def find_peak_bytes(probe: Probe) -> int | None:
    """Return the probe's measured peak, in the currency of the limit where that is known."""
    if probe.limit_peak_bytes is not None:
        return probe.limit_peak_bytes
    peaks = (probe.forward_backward_peak_bytes, probe.optimizer_peak_bytes)
    return max((peak for peak in peaks if peak is not None), default=None)


def _select(probes: Sequence[Probe], *outcomes: str) -> list[Probe]:
    return [probe for probe in probes if probe.stage == "memory" and probe.outcome in outcomes]


def _fit_phase(measured: Sequence[tuple[int, int | None]], noise_bytes: float) -> AffineLaw | None:
    """Return the line of one phase, with its slope raised by what the noise could hide."""
    known = sorted((size, peak) for size, peak in measured if peak is not None)
    # Of several probes at one size the worst counts; sorting put it last.
    points = [(size, float(list(group)[-1][1])) for size, group in groupby(known, itemgetter(0))]
    if len(points) < 2:
        return None
    window = _choose_window(points)
    centre_size = sum(size for size, _ in window) / len(window)
    centre_bytes = sum(peak for _, peak in window) / len(window)
    covariance = sum((size - centre_size) * (peak - centre_bytes) for size, peak in window)
    slope = max(0.0, covariance / sum((size - centre_size) ** 2 for size, _ in window))
    largest = window[-1][0]
    at_largest = centre_bytes + slope * (largest - centre_size)
    slope += 2.0 * noise_bytes / (largest - window[0][0])
    return AffineLaw(fixed_bytes=at_largest - slope * largest, bytes_per_sample=slope)


def _choose_window(points: Sequence[_Point]) -> Sequence[_Point]:
    """Return the points of the piece that binds at the largest size, apart enough for a slope."""
    largest = points[-1][0]
    first = len(points) - 2
    while first > 0 and (
        points[first - 1][0] >= _WINDOW_FRACTION * largest
        or largest - points[first][0] < _SPAN_FRACTION * largest
    ):
        first -= 1
    return points[first:]
