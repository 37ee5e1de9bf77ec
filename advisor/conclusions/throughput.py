"""What the throughput sessions say."""

from typing import Literal

import msgspec

from advisor.statistics import Estimate

SaturationStatus = Literal[
    "saturated", "memory_limited", "host_bound", "retrograde", "inconclusive"
]


class ThroughputPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Speed at one micro-batch size.

    Attributes:
        samples_per_s: Median over sessions, with its interval.
        step_s: Seconds of one full optimizer step, likewise.
        micro_step_s: Seconds of forward and backward alone.
        sessions: Processes behind the figure.
        peak_bytes: Measured peak of training at this size; None where it was not measured.
        predicted_peak_bytes: The same by the fitted law of memory, where it was not measured.
    """

    micro_batch_size: int
    samples_per_s: Estimate
    step_s: Estimate
    micro_step_s: float | None
    sessions: int
    peak_bytes: int | None = None
    predicted_peak_bytes: float | None = None


class Saturation(msgspec.Struct, frozen=True, kw_only=True):
    """Where larger batches stop being faster.

    Attributes:
        batch_size: The smallest measured size whose throughput is within the tolerance of every
            larger one; None where the data do not tell.
        low: Lower end of its interval.
        high: Upper end of its interval; None where no measured size bounds it.
        status: Why the curve ends.
        needed_batch_size: The size the fitted law puts saturation at, where memory ends before it.
    """

    batch_size: int | None
    low: int | None
    high: int | None
    status: SaturationStatus
    needed_batch_size: int | None = None


class ThroughputConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The throughput curve and its law t(b) = fixed_s + per_sample_s·b.

    Attributes:
        half_saturation_batch_size: fixed_s / per_sample_s, where throughput is half its limit.
        optimizer_step_s: Seconds of one optimizer step beyond forward and backward.
        session_spread_fraction: Half the range of sessions over their median, worst size.
    """

    points: tuple[ThroughputPoint, ...]
    half_saturation_batch_size: Estimate
    fixed_s: float | None
    per_sample_s: float | None
    optimizer_step_s: float | None
    saturation: Saturation
    session_spread_fraction: float | None
