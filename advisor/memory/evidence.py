"""Which sizes may be tried, and what the probes so far say: where every search starts."""

from collections.abc import Sequence
from math import ceil, floor, inf
from typing import NamedTuple

import msgspec

from advisor.engine.spec import Limits
from advisor.memory.data import Probe
from advisor.memory.law import is_gap_closed
from advisor.training.data import WorkloadFacts


class SearchBounds(msgspec.Struct, frozen=True, kw_only=True):
    """Which sizes may be tried.

    Attributes:
        min_micro_batch_size: The smallest, a multiple of `batch_multiple`.
        max_micro_batch_size: The largest; None where memory alone limits.
        batch_multiple: Only multiples of this size are tried.
        capacity_bytes: The enforced limit; None where it is unknown.
    """

    min_micro_batch_size: int
    max_micro_batch_size: int | None = None
    batch_multiple: int = 1
    capacity_bytes: int | None = None

    @property
    def largest_allowed(self) -> float:
        """The largest multiple within the bounds, infinity without one."""
        if self.max_micro_batch_size is None:
            return inf
        return self.max_micro_batch_size // self.batch_multiple * self.batch_multiple


class SearchLimits(NamedTuple):
    """How long a search may go on, and how close it comes.

    Attributes:
        probes: Most probes.
        ooms: Out-of-memory errors that end it.
        resolution_fraction: Gap that is closed, as a share of the size; see `is_gap_closed`.
    """

    probes: int
    ooms: int
    resolution_fraction: float


class Evidence(NamedTuple):
    """What the probes say.

    Attributes:
        fits: The probes that ran.
        largest: The one of them with the largest size.
        failed: The smallest size that did not fit; None if all did.
        ooms: Probes that did not fit.
        left: Probes that may still be run.
        ceiling: The largest size that may be tried next.
    """

    fits: tuple[Probe, ...]
    largest: Probe
    failed: int | None
    ooms: int
    left: int
    ceiling: float

    @property
    def ran(self) -> int:
        """The largest size that ran."""
        return self.largest.micro_batch_size


def choose_bounds(facts: WorkloadFacts, limits: Limits, capacity_bytes: int | None) -> SearchBounds:
    """Return which sizes may be tried for this workload under these limits."""
    caps = [cap for cap in (facts.dataset_size, limits.max_micro_batch_size) if cap is not None]
    multiple = limits.batch_multiple
    return SearchBounds(
        min_micro_batch_size=ceil(facts.min_micro_batch_size / multiple) * multiple,
        max_micro_batch_size=min(caps, default=None),
        batch_multiple=multiple,
        capacity_bytes=capacity_bytes,
    )


def read_evidence(
    probes: Sequence[Probe], bounds: SearchBounds, limits: SearchLimits
) -> Evidence | None:
    """Return what the memory probes say, None where they end the search."""
    fits = tuple(probe for probe in probes if probe.outcome == "fit")
    too_big = [p.micro_batch_size for p in probes if p.outcome in {"oom", "spill"}]
    if not fits or len(fits) + len(too_big) < len(probes):
        return None
    if len(probes) >= limits.probes or len(too_big) >= limits.ooms:
        return None
    largest = max(fits, key=lambda probe: probe.micro_batch_size)
    ran, failed = largest.micro_batch_size, min(too_big, default=None)
    ceiling = bounds.largest_allowed
    if failed is not None:
        if is_gap_closed(ran, failed, bounds.batch_multiple, limits.resolution_fraction):
            return None
        ceiling = min(ceiling, failed - bounds.batch_multiple)
    if ran >= ceiling:
        return None
    return Evidence(
        fits=fits,
        largest=largest,
        failed=failed,
        ooms=len(too_big),
        left=limits.probes - len(probes),
        ceiling=ceiling,
    )


def find_granule(size: int, fraction: float, bounds: SearchBounds) -> int:
    """Return a share of the size in whole multiples, at least one."""
    return max(1, floor(fraction * size / bounds.batch_multiple)) * bounds.batch_multiple
