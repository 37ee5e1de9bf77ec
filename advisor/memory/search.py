"""Which size to try next by the probes alone: a law for each phase is fitted to them.

    grow                        approach                        certify
    the smallest, then what     the share of the capacity       the predicted largest runs,
    the law supports            that is safe, then steps        half a per cent more does not

Two rules hold the search to 12 probes and 2 out-of-memory errors although the law may be some per
cent off. Before the first error no step near the limit is longer than what the probes left could
search again from below. After it, sizes that should fit come first, then even steps up to the one
that failed: the second error ends the search.
"""

from collections.abc import Sequence
from math import ceil, comb, floor, inf
from typing import NamedTuple

import msgspec

from advisor.memory.data import Outcome, Probe, list_sizes
from advisor.memory.law import fit_memory
from advisor.predict.law import MemoryLaw

#: Widest gap between a size that ran and one that did not, as a share of the first, that is closed.
RESOLUTION_FRACTION = 0.01
#: Step from the predicted largest size to the one that should fail, as a share of the size.
CERTIFICATE_FRACTION = RESOLUTION_FRACTION / 2
#: Share of the capacity that a predicted peak may reach without risk: fragmentation and workspaces
#: that the peak does not count take up to 10 % on top, and the law is a little off.
SAFE_FRACTION = 0.89
#: Share of the predicted largest size to go to at once: beyond, a steeper piece may take over.
DOUBT_FRACTION = 0.45
#: Growth from one size to the next while evidence is thin, from one size and from several: real
#: models have kinks at sizes of 3 to 30, and below them a flat law would allow any size.
FIRST_GROWTH, GROWTH = 4, 8
#: Share of the line's value at size zero that any other piece of the peak takes there as well: with
#: plain SGD, the extreme, the parameters alone, beside two more tensors of their size.
FLOOR_FRACTION = 1 / 3
#: Error of one measured peak, in bytes: page granularity and the allocator's rounding.
NOISE_BYTES = 1 << 20
#: How a size ends that is too large: it needs more than the limit, or a kernel does not take it.
TOO_BIG: tuple[Outcome, ...] = ("oom", "spill", "kernel")


class SearchBounds(msgspec.Struct, frozen=True, kw_only=True):
    """Which sizes may be tried."""

    #: A multiple of `batch_multiple`.
    min_micro_batch_size: int
    #: None where memory alone limits.
    max_micro_batch_size: int | None = None
    batch_multiple: int = 1
    #: The enforced limit; None where it is unknown.
    capacity_bytes: int | None = None
    #: Of the user's own batch: the first to be measured, since all advice is relative to it.
    base_micro_batch_size: int | None = None

    @property
    def largest_allowed(self) -> float:
        """The largest multiple within the bounds, infinity without one."""
        if self.max_micro_batch_size is None:
            return inf
        return self.max_micro_batch_size // self.batch_multiple * self.batch_multiple

    def find_granule(self, size: int, fraction: float) -> int:
        """Return a share of the size in whole multiples, at least one."""
        return max(1, floor(fraction * size / self.batch_multiple)) * self.batch_multiple

    def is_gap_closed(
        self, ran: int, failed: float, resolution_fraction: float = RESOLUTION_FRACTION
    ) -> bool:
        """Return whether no size of interest lies between one that ran and one that did not."""
        return failed - ran <= max(self.batch_multiple, resolution_fraction * ran)


class SearchLimits(NamedTuple):
    """When a search ends: after so many probes or errors, or where the gap is this share."""

    probes: int
    ooms: int
    resolution_fraction: float


class Evidence(NamedTuple):
    """What the probes say."""

    fits: tuple[Probe, ...]
    largest: Probe
    failed: int | None  # the smallest size that did not fit
    ooms: int
    left: int  # probes that may still be run
    ceiling: float  # the largest size that may be tried next

    @property
    def ran(self) -> int:
        """The largest size that ran."""
        return self.largest.micro_batch_size


def read_evidence(
    probes: Sequence[Probe], bounds: SearchBounds, limits: SearchLimits
) -> Evidence | None:
    """Return what the memory probes say, None where they end the search."""
    fits = tuple(probe for probe in probes if probe.outcome == "fit")
    failures = list_sizes(probes, *TOO_BIG)
    if not fits or len(fits) + len(failures) < len(probes):
        return None
    # The first size was given, not sought: where it fails it ends the range, and tells no more.
    sought = probes[1:] if probes[0].outcome in TOO_BIG else probes
    too_big = list_sizes(sought, *TOO_BIG)
    left = limits.probes - len(sought)
    if left <= 0 or len(too_big) >= limits.ooms:
        return None
    largest = max(fits, key=lambda probe: probe.micro_batch_size)
    ran, least = largest.micro_batch_size, min(failures, default=inf)
    ceiling = min(bounds.largest_allowed, least - bounds.batch_multiple)
    if ran >= ceiling or bounds.is_gap_closed(ran, least, limits.resolution_fraction):
        return None
    return Evidence(fits, largest, min(too_big, default=None), len(too_big), left, ceiling)


def choose_affine_size(evidence: Evidence, bounds: SearchBounds) -> float:
    """Return the size to try by the law of the probes alone, before rounding and the ceiling."""
    law = fit_memory(evidence.fits)
    predicted = _predict_largest(law, bounds.capacity_bytes)
    safe = _find_safe_size(evidence, bounds.capacity_bytes)
    start, left, ran = float(evidence.ran), evidence.left, evidence.ran
    granule = bounds.find_granule(ran, RESOLUTION_FRACTION)
    if evidence.failed is None:
        if law is None or bounds.capacity_bytes is None:
            return max(safe, FIRST_GROWTH * ran)
        if ran < DOUBT_FRACTION * predicted:
            return max(safe, min(DOUBT_FRACTION * predicted, GROWTH * ran))
        if predicted < ran + bounds.batch_multiple:
            return ran + bounds.find_granule(ran, CERTIFICATE_FRACTION)
        if safe > ran + granule and left > 1:
            # The step starts from the safe size; should it fail, that size costs one probe more.
            start, left = safe, left - 1
    elif ran + granule < safe < evidence.failed:
        return safe
    end = min(max(predicted, ran) + granule, evidence.ceiling + bounds.batch_multiple)
    errors = 2 if evidence.failed is None else 1
    size = start + find_longest_step(start, end, granule, left, errors)
    return min(evidence.failed or predicted, size)


def find_longest_step(start: float, end: float, granule: int, probes: int, errors: int) -> float:
    """Return how far to go at once from a size that runs towards one that does not.

    What fails can still be searched from below, a granule or an even share of it at a time, with
    the probes and errors that are left after it.
    """
    granules = ceil((end - start) / granule)
    stretch = max(1.0, granules / (1 + _count_searchable(probes, errors)))
    return ceil(stretch * (1 + _count_searchable(probes - 1, errors - 1))) * granule


def _count_searchable(probes: int, errors: int) -> int:
    """Return among how many sizes so many probes with so many errors find the largest that fits."""
    return sum(comb(probes, error) for error in range(1, errors + 1))


def _predict_largest(law: MemoryLaw | None, capacity_bytes: float | None) -> float:
    """Return the largest whole size that the law allows, infinity where it allows any."""
    largest = inf if law is None or capacity_bytes is None else law.predict_largest(capacity_bytes)
    return largest if largest == inf else floor(largest)


def _find_safe_size(evidence: Evidence, capacity_bytes: int | None) -> float:
    """Return a size that should fit even if the law is off; zero where nothing is known."""
    peak = evidence.largest.peak_bytes
    if capacity_bytes is None or peak is None:
        return 0.0
    allowed, ran = SAFE_FRACTION * capacity_bytes, evidence.ran
    # Near the limit the law's own line, raised by the noise, says most.
    law = fit_memory(evidence.fits, noise_bytes=NOISE_BYTES)
    if law is None:
        return ran * allowed / (peak + NOISE_BYTES)
    is_refuted = evidence.failed is not None and law.predict_bytes(evidence.failed) < allowed
    is_near = ran >= DOUBT_FRACTION * _predict_largest(law, capacity_bytes)
    if is_near and not is_refuted:
        return _predict_largest(law, allowed)
    # Far from it a line not seen yet may take over: it is below this peak, and above the floor.
    floor_bytes = FLOOR_FRACTION * max(0.0, law.find_binding(ran).fixed_bytes)
    return ran * (allowed - floor_bytes) / (peak + NOISE_BYTES - floor_bytes)
