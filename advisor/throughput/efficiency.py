"""How near training comes to what the device can do, what holds it back, and its energy."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec.structs import replace

from advisor.device.data import Environment, Telemetry
from advisor.memory.data import Probe
from advisor.predict.data import StepCost
from advisor.predict.roofline import find_peak
from advisor.statistics import Estimate, estimate_median_over_sessions, exponentiate, median
from advisor.throughput.blocks import measure_block_energy_j
from advisor.throughput.data import (
    SpeedLimit,
    SpeedLimitKind,
    ThroughputConclusion,
    ThroughputPoint,
)
from advisor.training.data import Precision

#: Share of a peak from which on it is what binds: few whole models reach more.
NEAR_PEAK_FRACTION = 0.5
#: Share of a step from which on its fixed cost is what binds.
FIXED_FRACTION = 0.5
#: Share of the processors' time in the kernel from which on its page faults are what binds: freeing
#: a training step of them then makes it about as much shorter.
KERNEL_FRACTION = 0.15
_CONFIDENCE = 0.95


class _Peaks(NamedTuple):
    flops_per_s: float | None = None
    bandwidth_bytes_per_s: float | None = None
    source: Literal["data sheet", "matrix product"] | None = None


def add_efficiency(
    throughput: ThroughputConclusion,
    probes: Sequence[Probe],
    *,
    cost: StepCost | None,
    environment: Environment | None,
    precision: Precision,
) -> ThroughputConclusion:
    """Return the conclusion with the shares of the peaks at each size, and what binds.

    On a CPU the peak is what the canary reached on this machine, in fp32 alone.

    Source: MFU as in Chowdhery et al. 2022 (PaLM), appendix B, with counted operations; bandwidth
    after Williams, Waterman and Patterson 2009.
    """
    peaks = _find_peaks(probes, environment, precision, cost)
    points = tuple(_add_shares(point, cost, peaks) for point in throughput.points)
    throughput = replace(throughput, points=points)
    return replace(throughput, speed_limit=_find_speed_limit(throughput, probes, peaks))


def estimate_energy_per_sample(
    probes: Sequence[Probe], telemetry: Sequence[Telemetry]
) -> dict[int, Estimate]:
    """Return the joules that training takes for each sample, by micro-batch size.

    All that the counter covers is in it: a GPU's whole board, or a CPU's package with whatever else
    runs on it.
    """
    counters = {each.session: each for each in telemetry if each.energy_j}
    logs: dict[int, dict[int, list[float]]] = {}
    for probe in probes:
        if probe.stage != "throughput" or probe.session not in counters:
            continue
        for span, steps in zip(probe.block_spans_s, probe.block_steps, strict=True):
            energy_j = measure_block_energy_j(counters[probe.session], span)
            if energy_j is not None and energy_j > 0.0:
                per_sample_j = energy_j / (steps * probe.micro_batch_size)
                sessions = logs.setdefault(probe.micro_batch_size, {})
                sessions.setdefault(probe.session, []).append(math.log(per_sample_j))
    return {
        size: exponentiate(estimate_median_over_sessions([*sessions.values()], _CONFIDENCE))
        for size, sessions in sorted(logs.items())
    }


def find_cheapest_size(energy: Mapping[int, Estimate]) -> int | None:
    """Return the size that takes the least energy for each sample; None where none is known."""
    points = {size: each.point for size, each in energy.items() if each.point is not None}
    return min(points, key=points.__getitem__, default=None)


def _find_peaks(
    probes: Sequence[Probe],
    environment: Environment | None,
    precision: Precision,
    cost: StepCost | None,
) -> _Peaks:
    if environment is None:
        return _Peaks()
    if environment.peak_flops:
        uses_tf32 = cost is None or cost.uses_tf32
        peak = find_peak(environment.peak_flops, precision, uses_tf32=uses_tf32)
        return _Peaks(peak, environment.bandwidth_bytes_per_s, "data sheet")
    rates = [
        probe.canary_flops / min(probe.canary_times_s)
        for probe in probes
        if probe.canary_flops and probe.canary_times_s
    ]
    if environment.device.kind == "cpu" and precision == "fp32" and rates:
        return _Peaks(max(rates), None, "matrix product")
    return _Peaks()


def _add_shares(point: ThroughputPoint, cost: StepCost | None, peaks: _Peaks) -> ThroughputPoint:
    step_s, size = point.step_s.point, point.micro_batch_size
    if cost is None or step_s is None:
        return point
    flops = bandwidth = None
    done = cost.count_flops(size)
    if peaks.flops_per_s and done is not None:
        flops = done / step_s / peaks.flops_per_s
    if peaks.bandwidth_bytes_per_s:
        bandwidth = cost.count_moved_bytes(size) / step_s / peaks.bandwidth_bytes_per_s
    return replace(point, flops_fraction=flops, bandwidth_fraction=bandwidth)


def _find_speed_limit(
    throughput: ThroughputConclusion, probes: Sequence[Probe], peaks: _Peaks
) -> SpeedLimit | None:
    size = throughput.decisive_micro_batch_size
    point = next((p for p in throughput.points if p.micro_batch_size == size), None)
    if point is None or point.step_s.point is None:
        return None
    step_s, fixed_s = point.step_s.point, throughput.fixed_s
    mine = [probe for probe in probes if probe.micro_batch_size == size]
    issued_s = _take_median([median(p.enqueue_times_s) for p in mine if p.enqueue_times_s])
    limit = SpeedLimit(
        micro_batch_size=point.micro_batch_size,
        kind=None,
        peak=peaks.source if point.flops_fraction is not None else None,
        flops_fraction=point.flops_fraction,
        bandwidth_fraction=point.bandwidth_fraction,
        enqueue_fraction=None if issued_s is None else min(issued_s / step_s, 1.0),
        fixed_fraction=None if fixed_s is None else min(fixed_s / step_s, 1.0),
        page_faults_per_step=_take_median([probe.page_faults_per_step for probe in mine]),
        kernel_time_fraction=_take_median([probe.kernel_time_fraction for probe in mine]),
    )
    is_host_bound = throughput.saturation.status == "host_bound"
    return replace(limit, kind=_name_kind(limit, is_host_bound=is_host_bound))


def _take_median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _name_kind(limit: SpeedLimit, *, is_host_bound: bool) -> SpeedLimitKind | None:
    """Return what binds: the nearest to the program first, for that is what can be changed."""
    flops, bandwidth = limit.flops_fraction, limit.bandwidth_fraction or 0.0
    if is_host_bound:
        return "host"
    if (limit.kernel_time_fraction or 0.0) >= KERNEL_FRACTION and limit.page_faults_per_step:
        return "heap"
    if (limit.fixed_fraction or 0.0) >= FIXED_FRACTION:
        return "fixed"
    if flops is None:
        return None
    if max(flops, bandwidth) < NEAR_PEAK_FRACTION:
        return "neither"
    return "arithmetic" if flops >= bandwidth else "bandwidth"
