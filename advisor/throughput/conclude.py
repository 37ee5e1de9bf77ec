"""The throughput curve of a run: its points, its law, and where it saturates.

The replicate unit of every interval is the session (one worker process): blocks of one process
agree with each other far better than processes do.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from advisor.device.data import Environment, Telemetry
from advisor.engine.record import Conclusions, Topic
from advisor.memory.data import PROBES, Probe
from advisor.memory.law import find_peaks, fit_memory, predict_peak_bytes
from advisor.memory.plan import MEMORY
from advisor.predict.data import STEP_COST, LimitedBy, StepCost
from advisor.statistics import (
    Estimate,
    estimate_median_over_sessions,
    exponentiate,
    fieller_ratio,
    median,
)
from advisor.throughput.blocks import discard_held_blocks
from advisor.throughput.data import TELEMETRY, ThroughputConclusion, ThroughputPoint
from advisor.throughput.disturbances import name_disturbances
from advisor.throughput.efficiency import (
    estimate_energy_per_sample,
    find_device_peaks,
    find_speed_limit,
)
from advisor.throughput.paired_sizes import PairedSizes, pair_sizes
from advisor.throughput.saturation import CONFIDENCE, find_saturation, measure_fall
from advisor.throughput.step_law import StepLaw, choose_law, fit_laws
from advisor.training.data import Precision

#: Share of a step's wall time from which on issuing it counts as all of it.
HOST_BOUND_FRACTION = 0.9
#: Times the least issuing time that a host-bound step may last: where a full launch queue makes
#: issuing look slow, steps take far longer.
HOST_BOUND_STRETCH = 1.5
#: Share of the largest feasible size at which the largest timed one stands for it.
_WHOLE_FRACTION = 0.9

_BySize = Mapping[int, Sequence[Probe]]


def conclude_throughput(
    probes: Sequence[Probe],
    *,
    largest_micro_batch_size: int | None,
    range_end: LimitedBy,
    smallest_micro_batch_size: int = 1,
    batch_multiple: int = 1,
    telemetry: Sequence[Telemetry] = (),
    environment: Environment | None = None,
    cost: StepCost | None = None,
    precision: Precision = "fp32",
) -> ThroughputConclusion:
    """Return the curve of the sizes timed up to the largest, which `range_end` makes that.

    Others than multiples, and those below the smallest, do not run.
    """
    valid = discard_held_blocks(probes, telemetry)
    usable = [
        probe
        for probe in valid.probes
        if (probe.stage, probe.outcome) == ("throughput", "fit")
        and probe.step_times_s
        and probe.micro_batch_size <= (largest_micro_batch_size or math.inf)
    ]
    by_size, step_s = defaultdict[int, list[Probe]](list), defaultdict[int, dict[int, float]](dict)
    for probe in usable:
        fastest_s = probe.fastest_step_s or min(probe.calm_step_times_s)
        step_s[probe.session][probe.micro_batch_size] = fastest_s
    for probe in sorted(usable, key=lambda probe: probe.micro_batch_size):
        by_size[probe.micro_batch_size].append(probe)
    paired = pair_sizes(step_s)
    fitted = (paired.sizes, paired.step_s, paired.errors)
    laws = fit_laws(*fitted)
    line = next(iter(fit_laws(*fitted, kinds=("affine",))), None)
    fixed_s, per_sample_s = (None, None) if line is None else line.coefficients[:2]
    optimizer_step_s, optimizer_error_s = _estimate_optimizer_step_s(by_size) or (None, None)
    largest = max(by_size, default=None)
    is_whole = (largest or 0) >= _WHOLE_FRACTION * (largest_micro_batch_size or 0)
    saturation = find_saturation(
        paired,
        laws,
        range_end=range_end if is_whole else "budget",
        runnable=(largest or 0) // batch_multiple
        - (smallest_micro_batch_size - 1) // batch_multiple,
        host_bound=_is_host_bound(by_size),
    )
    peaks, memory_law = find_peaks(probes), fit_memory(probes)
    device_peaks = find_device_peaks(usable, environment, precision, cost)
    energy = estimate_energy_per_sample(usable, telemetry)
    points = {}
    for size, mine in by_size.items():
        # On the log scale, so that no end is below 0.
        logs = [[math.log(seconds) for seconds in probe.step_times_s] for probe in mine]
        log_s = estimate_median_over_sessions(logs, CONFIDENCE)
        micro_s = [median(p.micro_step_times_s) for p in mine if p.micro_step_times_s]
        seconds = exponentiate(log_s)
        flops, bandwidth = device_peaks.find_shares(cost, size, seconds.point)
        points[size] = ThroughputPoint(
            micro_batch_size=size,
            samples_per_s=exponentiate(log_s, factor=size, inverse=True),
            step_s=seconds,
            micro_step_s=median(micro_s) if micro_s else None,
            sessions=len(mine),
            energy_per_sample_j=energy.get(size),
            flops_fraction=flops,
            bandwidth_fraction=bandwidth,
            peak_bytes=peaks.get(size),
            predicted_peak_bytes=None
            if size in peaks or memory_law is None
            else predict_peak_bytes(size, peaks, memory_law),
        )
    decisive = saturation.batch_size or largest
    half_width = speed_limit = None
    if decisive is not None:
        speed = points[decisive].samples_per_s
        if speed.point and speed.low is not None and speed.high is not None:
            half_width = (speed.high - speed.low) / 2.0 / speed.point
        speed_limit = find_speed_limit(
            points[decisive],
            by_size[decisive],
            source=device_peaks.source,
            fixed_s=fixed_s,
            is_host_bound=saturation.status == "host_bound",
        )
    joules = {size: each.point for size, each in energy.items() if each.point is not None}
    times = [[median(probe.step_times_s) for probe in mine] for mine in by_size.values()]
    spreads = [(max(each) - min(each)) / 2.0 / median(each) for each in times if len(each) >= 2]
    return ThroughputConclusion(
        points=tuple(points.values()),
        half_saturation_batch_size=_estimate_half_saturation(line, paired),
        fixed_s=fixed_s,
        per_sample_s=per_sample_s,
        optimizer_step_s=optimizer_step_s,
        optimizer_step_error_s=optimizer_error_s,
        step_law=choose_law(laws, *fitted),
        saturation=saturation,
        fall=measure_fall(paired) if saturation.status == "retrograde" else None,
        session_spread_fraction=max(spreads, default=None),
        decisive_micro_batch_size=decisive,
        half_width_fraction=half_width,
        cheapest_micro_batch_size=min(joules, key=joules.__getitem__, default=None),
        speed_limit=speed_limit,
        discarded_blocks=valid.discarded,
        disturbances=name_disturbances(
            usable, telemetry, discarded=valid.discarded, environment=environment
        ),
    )


def _estimate_half_saturation(line: StepLaw | None, paired: PairedSizes) -> Estimate:
    """Return a/β of the line, with Fieller's interval."""
    if line is None or line.coefficients[1] <= 0.0:
        return Estimate(None, None, None, CONFIDENCE)
    fixed_s, per_sample_s, _ = line.coefficients
    if paired.degrees_of_freedom < 1:
        return Estimate(fixed_s / per_sample_s, None, None, CONFIDENCE)
    covariance = [row[:2] for row in line.covariance[:2]]
    ratio = fieller_ratio(fixed_s, per_sample_s, covariance, paired.degrees_of_freedom, CONFIDENCE)
    return replace(ratio, low=None if ratio.low is None else max(ratio.low, 0.0))


def _estimate_optimizer_step_s(by_size: _BySize) -> tuple[float, float] | None:
    """Return the seconds of a step beyond forward and backward, and their standard error, if timed.

    They do not depend on the size, so the small ones, where they stand out, weigh most. Both times
    are the fastest seen, as a neighbour disturbs the one and not the other.
    """
    pairs = [
        [
            (min(p.calm_step_times_s), min(p.micro_step_times_s))
            for p in probes
            if p.micro_step_times_s
        ]
        for probes in by_size.values()
    ]
    timed = [each for each in pairs if each]
    if not timed:
        return None
    differences = [median([step_s - pass_s for step_s, pass_s in each]) for each in timed]
    weights = [median([step_s for step_s, _ in each]) ** -2.0 for each in timed]
    mean = float(np.average(differences, weights=weights))
    squared = float(np.average(np.square(np.subtract(differences, mean)), weights=weights))
    error = math.sqrt(squared / max(len(differences) - 1, 1))
    return max(mean, 0.0), error if len(differences) > 1 else max(mean, 0.0)


def _is_host_bound(by_size: _BySize) -> bool:
    """Return whether issuing the steps still takes all the time at the largest size."""
    issued_s = {
        size: median([median(probe.enqueue_times_s) for probe in probes if probe.enqueue_times_s])
        for size, probes in by_size.items()
        if any(probe.enqueue_times_s for probe in probes)
    }
    largest = max(by_size, default=0)
    if largest not in issued_s:
        return False
    step_s = median([median(probe.step_times_s) for probe in by_size[largest]])
    is_issuing = issued_s[largest] >= HOST_BOUND_FRACTION * step_s
    return is_issuing and step_s <= HOST_BOUND_STRETCH * min(issued_s.values())


def _conclude(conclusions: Conclusions) -> ThroughputConclusion | None:
    record, memory = conclusions.record, conclusions.of(MEMORY)
    probes, facts = record.all(PROBES), record.workload
    if memory is None or all(probe.stage != "throughput" for probe in probes):
        return None
    return conclude_throughput(
        probes,
        largest_micro_batch_size=memory.max_micro_batch_size,
        range_end=memory.limited_by,
        smallest_micro_batch_size=1 if facts is None else facts.min_micro_batch_size,
        batch_multiple=record.command.limits.batch_multiple,
        telemetry=record.all(TELEMETRY),
        environment=record.environment,
        cost=record.get(STEP_COST),
        precision=record.command.precision,
    )


THROUGHPUT = Topic("throughput", ThroughputConclusion, _conclude)
