"""The throughput curve of a run: its points, its law, and where it saturates.

The replicate unit of every interval is the session (one worker process): blocks of one process
agree with each other far better than processes do, so they only go into that session's median.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from advisor.device.data import Environment, Telemetry
from advisor.memory.data import Probe
from advisor.statistics import (
    Estimate,
    estimate_median_over_sessions,
    exponentiate,
    fieller_ratio,
    median,
)
from advisor.throughput.blocks import discard_held_blocks
from advisor.throughput.data import Saturation, ThroughputConclusion, ThroughputPoint
from advisor.throughput.disturbances import name_disturbances
from advisor.throughput.energy import estimate_energy_per_sample, find_cheapest_size
from advisor.throughput.law import StepLaw, fit_coefficients, fit_smooth_law
from advisor.throughput.paired_sizes import PairedSizes, pair_sizes
from advisor.throughput.saturation import CONFIDENCE, find_saturation, measure_fall
from advisor.throughput.session_groups import measure_session_levels

#: Share of a step's wall time from which on issuing it counts as all of it.
HOST_BOUND_FRACTION = 0.9
#: Times the least issuing time that a host-bound step may last. A full launch queue makes the host
#: wait for the device and issuing look slow as well; but then steps take far longer than the host
#: needs where nothing holds it up.
HOST_BOUND_STRETCH = 1.5

_UNKNOWN = Estimate(None, None, None, CONFIDENCE)


def conclude_throughput(
    probes: Sequence[Probe],
    *,
    largest_micro_batch_size: int | None,
    memory_limited: bool,
    peak_bytes: Mapping[int, int],
    telemetry: Sequence[Telemetry] = (),
    environment: Environment | None = None,
) -> ThroughputConclusion:
    """Return the throughput curve, its law, and the saturation batch.

    Args:
        probes: Of any stage; the throughput probes that ran to their end count.
        largest_micro_batch_size: Sizes above it do not count; None means no such limit.
        memory_limited: Whether memory is what makes that size the largest.
        peak_bytes: Measured peak of training, by micro-batch size.
        telemetry: Counters over the sessions, where there are any.
        environment: Of the run, which knows the card's limits and memory.

    Source: derived; the law is Hockney's.
    """
    valid = discard_held_blocks(probes, telemetry)
    usable = [
        probe
        for probe in valid.probes
        if probe.stage == "throughput"
        and probe.outcome == "fit"
        and probe.step_times_s
        and (largest_micro_batch_size is None or probe.micro_batch_size <= largest_micro_batch_size)
    ]
    by_size = {
        size: [probe for probe in usable if probe.micro_batch_size == size]
        for size in sorted({probe.micro_batch_size for probe in usable})
    }
    step_s = _tabulate_step_s(usable)
    paired = pair_sizes(step_s) if step_s else None
    law = _fit_law(paired, by_size)
    energy = estimate_energy_per_sample(usable, telemetry)
    points = tuple(
        msgspec.structs.replace(
            _make_point(size, by_size[size], peak_bytes.get(size)),
            energy_per_sample_j=energy.get(size),
        )
        for size in by_size
    )
    saturation = find_saturation(
        paired,
        largest_micro_batch_size=largest_micro_batch_size,
        memory_limited=memory_limited,
        host_bound=_is_host_bound(by_size),
    )
    decisive = _find_decisive_point(points, saturation)
    return ThroughputConclusion(
        points=points,
        half_saturation_batch_size=_estimate_half_saturation(law, step_s),
        fixed_s=None if law is None else law.fixed_s,
        per_sample_s=None if law is None else law.per_sample_s,
        optimizer_step_s=_estimate_optimizer_step_s(by_size),
        saturation=saturation,
        fall=measure_fall(paired, saturation),
        session_spread_fraction=_measure_session_spread(by_size),
        decisive_micro_batch_size=None if decisive is None else decisive.micro_batch_size,
        half_width_fraction=None if decisive is None else _measure_half_width(decisive),
        cheapest_micro_batch_size=find_cheapest_size(energy),
        discarded_blocks=valid.discarded,
        disturbances=name_disturbances(
            usable,
            telemetry,
            discarded=valid.discarded,
            session_levels=measure_session_levels(usable),
            environment=environment,
        ),
    )


def _find_decisive_point(
    points: Sequence[ThroughputPoint], saturation: Saturation
) -> ThroughputPoint | None:
    """Return the point at the saturation batch, or at the largest size timed."""
    by_size = {point.micro_batch_size: point for point in points}
    largest = max(by_size, default=None)
    return None if largest is None else by_size.get(saturation.batch_size or largest)


def _measure_half_width(point: ThroughputPoint) -> float | None:
    speed = point.samples_per_s
    if speed.point is None or speed.low is None or speed.high is None:
        return None
    return (speed.high - speed.low) / 2.0 / speed.point


def _tabulate_step_s(probes: Iterable[Probe]) -> dict[int, dict[int, float]]:
    """Return the median seconds of a step, by session and size."""
    blocks: dict[int, dict[int, list[float]]] = {}
    for probe in probes:
        session = blocks.setdefault(probe.session, {})
        session.setdefault(probe.micro_batch_size, []).extend(probe.step_times_s)
    return {
        session: {size: median(times) for size, times in sizes.items()}
        for session, sizes in blocks.items()
    }


def _make_point(size: int, probes: Sequence[Probe], peak_bytes: int | None) -> ThroughputPoint:
    """Return the speed at one size.

    The interval is made on the log scale: no throughput is negative, however wide the interval.
    """
    sessions = _group_by_session(probes, "step_times_s")
    logs = [[math.log(seconds) for seconds in times] for times in sessions]
    log_s = estimate_median_over_sessions(logs, CONFIDENCE)
    micro_s = [median(times) for times in _group_by_session(probes, "micro_step_times_s")]
    return ThroughputPoint(
        micro_batch_size=size,
        samples_per_s=exponentiate(log_s, factor=size, inverse=True),
        step_s=exponentiate(log_s),
        micro_step_s=median(micro_s) if micro_s else None,
        sessions=len(sessions),
        peak_bytes=peak_bytes,
    )


def _group_by_session(probes: Sequence[Probe], field: str) -> list[list[float]]:
    groups: dict[int, list[float]] = {}
    for probe in probes:
        groups.setdefault(probe.session, []).extend(getattr(probe, field))
    return [times for times in groups.values() if times]


def _fit_law(paired: PairedSizes | None, by_size: Mapping[int, Sequence[Probe]]) -> StepLaw | None:
    """Return the law through all sizes, with session effects taken out where that can be done."""
    if paired is not None:
        step_s = (np.asarray(paired.sizes) / np.exp(paired.log_throughput)).tolist()
        return fit_smooth_law(paired.sizes, step_s)
    points = [_make_point(size, probes, None).step_s.point for size, probes in by_size.items()]
    return fit_smooth_law(list(by_size), [point for point in points if point is not None])


def _estimate_half_saturation(
    law: StepLaw | None, step_s: Mapping[int, Mapping[int, float]]
) -> Estimate:
    """Return a/β with an interval from the spread of a and β over sessions fitted apart.

    Source: Fieller 1954.
    """
    if law is None:
        return _UNKNOWN
    columns = 3 if law.curvature > 0.0 else 2
    fits = [
        fit_coefficients(list(times), list(times.values()), columns=columns)[:2]
        for times in step_s.values()
        if len(times) > columns
    ]
    if len(fits) < 2:
        return Estimate(law.fixed_s / law.per_sample_s, None, None, CONFIDENCE)
    covariance = np.cov(np.stack(fits), rowvar=False) / len(fits)
    ratio = fieller_ratio(law.fixed_s, law.per_sample_s, covariance, len(fits) - 1, CONFIDENCE)
    low = None if ratio.low is None else max(ratio.low, 0.0)
    return Estimate(ratio.point, low, ratio.high, CONFIDENCE)


def _estimate_optimizer_step_s(by_size: Mapping[int, Sequence[Probe]]) -> float | None:
    """Return the seconds of a step beyond forward and backward, None where those were not timed.

    They do not depend on the size, so the small sizes, where they stand out, weigh most: each
    difference weighs as its noise, which is proportional to the step time, allows.
    """
    differences, weights = [], []
    for probes in by_size.values():
        pairs = [
            (median(probe.step_times_s), median(probe.micro_step_times_s))
            for probe in probes
            if probe.micro_step_times_s
        ]
        if pairs:
            differences.append(median([step_s - micro_s for step_s, micro_s in pairs]))
            weights.append(median([step_s for step_s, _ in pairs]) ** -2.0)
    if not differences:
        return None
    return max(float(np.average(differences, weights=weights)), 0.0)


def _is_host_bound(by_size: Mapping[int, Sequence[Probe]]) -> bool:
    """Return whether issuing the steps still takes all the time at the largest size."""
    issued = {
        size: median([median(probe.enqueue_times_s) for probe in probes if probe.enqueue_times_s])
        for size, probes in by_size.items()
        if any(probe.enqueue_times_s for probe in probes)
    }
    if not by_size or max(by_size) not in issued:
        return False
    largest = max(by_size)
    step_s = median([median(probe.step_times_s) for probe in by_size[largest]])
    is_issuing = issued[largest] >= HOST_BOUND_FRACTION * step_s
    return is_issuing and step_s <= HOST_BOUND_STRETCH * min(issued.values())


def _measure_session_spread(by_size: Mapping[int, Sequence[Probe]]) -> float | None:
    """Return half the range of the sessions over their median, at the size where it is largest."""
    spreads = []
    for probes in by_size.values():
        times = [median(group) for group in _group_by_session(probes, "step_times_s")]
        if len(times) >= 2:
            spreads.append((max(times) - min(times)) / 2.0 / median(times))
    return max(spreads, default=None)
