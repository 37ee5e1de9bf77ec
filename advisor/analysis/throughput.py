"""The throughput curve of a run: its points, its law, and where it saturates.

The replicate unit of every interval is the session (one worker process): blocks of one process
agree with each other far better than processes do, so they only go into that session's median.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from advisor.analysis.paired_sizes import PairedSizes, pair_sizes
from advisor.analysis.saturation import CONFIDENCE, find_saturation
from advisor.analysis.step_time import StepTimeLaw, fit_coefficients, fit_step_time
from advisor.conclusions import ThroughputConclusion, ThroughputPoint
from advisor.measurements import Probe
from advisor.statistics import Estimate, estimate_median_over_sessions, fieller_ratio, median

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
) -> ThroughputConclusion:
    """Return the throughput curve, its law, and the saturation batch.

    Args:
        probes: Of any stage; the throughput probes that ran to their end count.
        largest_micro_batch_size: Sizes above it do not count; None means no such limit.
        memory_limited: Whether memory is what makes that size the largest.
        peak_bytes: Measured peak of training, by micro-batch size.

    Source: derived; the law is Hockney's.
    """
    usable = [
        probe
        for probe in probes
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
    return ThroughputConclusion(
        points=tuple(_make_point(size, by_size[size], peak_bytes.get(size)) for size in by_size),
        half_saturation_batch_size=_estimate_half_saturation(law, step_s),
        fixed_s=None if law is None else law.fixed_s,
        per_sample_s=None if law is None else law.per_sample_s,
        optimizer_step_s=_estimate_optimizer_step_s(by_size),
        saturation=find_saturation(
            paired,
            largest_micro_batch_size=largest_micro_batch_size,
            memory_limited=memory_limited,
            host_bound=_is_host_bound(by_size),
        ),
        session_spread_fraction=_measure_session_spread(by_size),
    )


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
        samples_per_s=Estimate(
            _exponentiate(log_s.point, size, -1.0),
            _exponentiate(log_s.high, size, -1.0),
            _exponentiate(log_s.low, size, -1.0),
            CONFIDENCE,
        ),
        step_s=Estimate(
            _exponentiate(log_s.point),
            _exponentiate(log_s.low),
            _exponentiate(log_s.high),
            CONFIDENCE,
        ),
        micro_step_s=median(micro_s) if micro_s else None,
        sessions=len(sessions),
        peak_bytes=peak_bytes,
    )


def _exponentiate(value: float | None, factor: float = 1.0, sign: float = 1.0) -> float | None:
    """Return factor·exp(sign·value), None where it is unknown or out of any sensible range."""
    if value is None:
        return None
    with np.errstate(over="ignore"):
        result = factor * float(np.exp(sign * value))
    return result if math.isfinite(result) else None


def _group_by_session(probes: Sequence[Probe], field: str) -> list[list[float]]:
    groups: dict[int, list[float]] = {}
    for probe in probes:
        groups.setdefault(probe.session, []).extend(getattr(probe, field))
    return [times for times in groups.values() if times]


def _fit_law(
    paired: PairedSizes | None, by_size: Mapping[int, Sequence[Probe]]
) -> StepTimeLaw | None:
    """Return the law through all sizes, with session effects taken out where that can be done."""
    if paired is not None:
        step_s = (np.asarray(paired.sizes) / np.exp(paired.log_throughput)).tolist()
        return fit_step_time(paired.sizes, step_s)
    points = [_make_point(size, probes, None).step_s.point for size, probes in by_size.items()]
    return fit_step_time(list(by_size), [point for point in points if point is not None])


def _estimate_half_saturation(
    law: StepTimeLaw | None, step_s: Mapping[int, Mapping[int, float]]
) -> Estimate:
    """Return a/β with an interval from the spread of a and β over sessions fitted apart.

    Source: Fieller 1954.
    """
    if law is None:
        return _UNKNOWN
    curved = law.curvature > 0.0
    fits = [
        fit_coefficients(list(times), list(times.values()), curved=curved)[:2]
        for times in step_s.values()
        if len(times) > 2 + curved
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
