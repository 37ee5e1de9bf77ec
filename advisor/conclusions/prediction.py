"""What is predicted for a card that is not here."""

from typing import Literal

import msgspec

from advisor.conclusions.memory import LimitedBy
from advisor.conclusions.peak import Breakdown, Comparison
from advisor.statistics import Estimate


class MemoryShare(msgspec.Struct, frozen=True, kw_only=True):
    """What a part of the training state takes at the peak.

    Attributes:
        part: Such as `parameters` or `context`.
        size_bytes: Unrounded sizes of the storages; the allocator's rounding is a part of its own.
    """

    part: str
    size_bytes: int


class ThroughputBound(msgspec.Struct, frozen=True, kw_only=True):
    """What no implementation can exceed on the card; a bound, not an estimate.

    Attributes:
        samples_per_s: The lower of the two below.
        limited_by: Which of them that is.
        arithmetic_per_s: At the dense peak of the data sheet; None where either is unknown.
        bandwidth_per_s: At the bandwidth of the data sheet, likewise.
    """

    samples_per_s: float
    limited_by: Literal["arithmetic", "bandwidth"]
    arithmetic_per_s: float | None
    bandwidth_per_s: float | None


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """Training on one card that is not here: predicted, not run.

    Attributes:
        gpu: Name of the card.
        memory_bytes: All of its memory.
        memory_source: `driver-reported`, `nominal` or `stated`.
        usable_bytes: What CUDA programs can get of it.
        headroom_bytes: Kept free.
        capacity_bytes: What is left for tensors: usable, less context and headroom.
        max_micro_batch_size: The largest that fits; 0 where not even the smallest does.
        limited_by: What ends it.
        micro_batch_size: The size that the figures below are for: the one asked for, else the
            largest; None where there is none.
        fits: Whether that size fits; None where the interval holds both.
        allocated_bytes: Peak of all tensors.
        reserved_bytes: Peak of the caching allocator.
        device_used_bytes: Peak of the process as the driver sees it, the context included.
        breakdown: What the peak consists of.
        bound: On the speed at that size; None where nothing bounds it.
        at_peak: What holds the memory at that size; None where no trace holds for it.
        what_would_change: What usual remedies would change; None where none was traced.
    """

    gpu: str
    memory_bytes: int
    memory_source: str
    usable_bytes: int
    headroom_bytes: int
    capacity_bytes: int
    max_micro_batch_size: Estimate
    limited_by: LimitedBy
    micro_batch_size: int | None = None
    fits: bool | None = None
    allocated_bytes: Estimate | None = None
    reserved_bytes: Estimate | None = None
    device_used_bytes: Estimate | None = None
    breakdown: tuple[MemoryShare, ...] = ()
    bound: ThroughputBound | None = None
    at_peak: Breakdown | None = None
    what_would_change: Comparison | None = None
