"""How near training comes to what the device can do, what holds it back, and its energy."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from advisor.device.data import Environment, Telemetry
from advisor.memory.data import Probe
from advisor.predict.data import StepCost
from advisor.predict.roofline import find_peak
from advisor.statistics import Estimate, estimate_median_over_sessions, exponentiate, median
from advisor.throughput.blocks import measure_rise
from advisor.throughput.data import PeakSource, SpeedLimit, SpeedLimitKind, ThroughputPoint
from advisor.training.data import Precision

#: Share of a peak from which on it is what binds: few whole models reach more.
NEAR_PEAK_FRACTION = 0.5
#: Share of a step from which on its fixed cost is what binds.
FIXED_FRACTION = 0.5
#: Share of the processors' time in the kernel from which on its page faults are what binds.
KERNEL_FRACTION = 0.15


class Peaks(NamedTuple):
    """What the device can do; on a CPU what the canary reached on this machine, in fp32 alone.

    Source: MFU as in Chowdhery et al. 2022 (PaLM), appendix B, with counted operations; bandwidth
    after Williams, Waterman and Patterson 2009.
    """

    flops_per_s: float | None = None
    bandwidth_bytes_per_s: float | None = None
    source: PeakSource | None = None

    def find_shares(
        self, cost: StepCost | None, size: int, step_s: float | None
    ) -> tuple[float | None, float | None]:
        """Return the shares of both that steps of a size reach, None where not known."""
        if cost is None or step_s is None:
            return None, None
        done = (cost.count_flops(size), cost.count_moved_bytes(size))
        flops, moved = (
            None if each is None or not peak else each / step_s / peak
            for each, peak in zip(done, (self.flops_per_s, self.bandwidth_bytes_per_s), strict=True)
        )
        return flops, moved


def find_device_peaks(
    probes: Sequence[Probe],
    environment: Environment | None,
    precision: Precision,
    cost: StepCost | None,
) -> Peaks:
    """Return what is known of the device's peaks."""
    if environment is None:
        return Peaks()
    if environment.peak_flops:
        uses_tf32 = cost is None or cost.uses_tf32
        peak = find_peak(environment.peak_flops, precision, uses_tf32=uses_tf32)
        return Peaks(peak, environment.bandwidth_bytes_per_s, "data sheet")
    rates = [
        probe.canary_flops / min(probe.canary_times_s)
        for probe in probes
        if probe.canary_flops and probe.canary_times_s
    ]
    if environment.device.kind == "cpu" and precision == "fp32" and rates:
        return Peaks(max(rates), None, "matrix product")
    return Peaks()


def estimate_energy_per_sample(
    probes: Sequence[Probe], telemetry: Sequence[Telemetry]
) -> dict[int, Estimate]:
    """Return the joules of a sample, by size: of a GPU's whole board, or a CPU's package."""
    by_session = {each.session: each for each in telemetry if each.energy_j}
    logs = defaultdict[int, defaultdict[int, list[float]]](lambda: defaultdict(list))
    for probe in probes:
        counters, size = by_session.get(probe.session), probe.micro_batch_size
        spans = zip(probe.block_spans_s, probe.block_steps, strict=True) if counters else ()
        for span, steps in spans:
            assert counters is not None
            energy_j = measure_rise(counters, counters.energy_j, span) or 0.0
            if energy_j > 0.0:
                logs[size][probe.session].append(math.log(energy_j / (steps * size)))
    return {
        size: exponentiate(estimate_median_over_sessions([*sessions.values()]))
        for size, sessions in logs.items()
    }


def find_speed_limit(
    point: ThroughputPoint,
    probes: Sequence[Probe],
    *,
    source: PeakSource | None,
    fixed_s: float | None,
    is_host_bound: bool,
) -> SpeedLimit:
    """Return what holds the speed at the point that these probes timed."""
    step_s = point.step_s.point
    assert step_s is not None  # it was timed
    issued_s = _take_median([median(p.enqueue_times_s) for p in probes if p.enqueue_times_s])
    limit = SpeedLimit(
        micro_batch_size=point.micro_batch_size,
        kind=None,
        peak=source if point.flops_fraction is not None else None,
        flops_fraction=point.flops_fraction,
        bandwidth_fraction=point.bandwidth_fraction,
        enqueue_fraction=None if issued_s is None else min(issued_s / step_s, 1.0),
        fixed_fraction=None if fixed_s is None else min(fixed_s / step_s, 1.0),
        page_faults_per_step=_take_median([probe.page_faults_per_step for probe in probes]),
        kernel_time_fraction=_take_median([probe.kernel_time_fraction for probe in probes]),
    )
    return replace(limit, kind="host" if is_host_bound else _name_kind(limit))


def _take_median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _name_kind(limit: SpeedLimit) -> SpeedLimitKind | None:
    """Return what binds: the nearest to the program first, for that is what can be changed."""
    flops, bandwidth = limit.flops_fraction, limit.bandwidth_fraction or 0.0
    if (limit.kernel_time_fraction or 0.0) >= KERNEL_FRACTION and limit.page_faults_per_step:
        return "heap"
    if (limit.fixed_fraction or 0.0) >= FIXED_FRACTION:
        return "fixed"
    if flops is None:
        return None
    if max(flops, bandwidth) < NEAR_PEAK_FRACTION:
        return "neither"
    return "arithmetic" if flops >= bandwidth else "bandwidth"
