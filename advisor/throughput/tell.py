"""Where larger batches stop being faster, what holds the speed, and the energy that it takes."""

from collections.abc import Iterator

from advisor.device.tell import describe_missing_counters
from advisor.engine.record import Conclusions
from advisor.predict.data import LimitedBy
from advisor.statistics import Estimate
from advisor.telling import Chart, Line, Mark, Row, Status, Told, place_estimates
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import (
    TELEMETRY,
    Saturation,
    SaturationStatus,
    SpeedLimit,
    ThroughputConclusion,
)
from advisor.units import (
    NOT_MEASURED,
    begin_sentence,
    count_of,
    format_count,
    format_interval,
    format_number,
    format_percent,
    format_range,
)

_STATUSES: dict[SaturationStatus, str] = {
    "saturated": "",
    "rising": "larger batches are still faster at the largest",
    "memory_limited": "not reached: memory ends first",
    "host_bound": "the host, not the device, limits throughput",
    "retrograde": "the largest batches are slower than smaller ones",
    "inconclusive": "inconclusive",
}
_RANGE_ENDS: dict[LimitedBy, str] = {
    "memory": "memory",
    "kernel": "a kernel that takes no larger batch",
    "dataset": "the dataset",
    "script": "what the script has enough steps of",
    "cap": "the limit that was given",
    "model": "what the model runs",
    "budget": "the time",
}
_PEAKS = {
    "data sheet": "of the data sheet's peak (MFU)",
    "matrix product": "of what a plain matrix product reached on this machine",
}
_LIMITS = {
    "host": "the host: it cannot issue work as fast as the device does it; fewer and larger "
    "operations would help, as --compile or CUDA graphs make them",
    "heap": "the C heap, which returns memory to the kernel after a step and takes it again in "
    "the next; MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1000000000000 in the environment "
    "keeps it (glibc), another allocator such as jemalloc does as well",
    "fixed": "fixed costs: the fitted law puts{share} of a step down to no sample; fewer and "
    "larger operations would help, as --compile makes them",
    "arithmetic": "arithmetic: only a lower precision or less work per sample makes it faster",
    "bandwidth": "memory bandwidth: fused operations and a lower precision move fewer bytes",
    "neither": "neither arithmetic nor bandwidth is near its peak: small or unfused "
    "operations, a memory layout or a precision that this device is slow at",
}
#: A spread beyond it says nothing but that the figure is not known.
_MOST_TOLD_FRACTION = 1.0


def tell_throughput(conclusions: Conclusions) -> Told:
    """Return where the curve flattens, or why there is none."""
    found = conclusions.of(THROUGHPUT)
    missing = f"{NOT_MEASURED}: {conclusions.record.why_missing}"
    return Told(rows=(Row("Saturation", missing if found is None else describe_throughput(found)),))


def chart_speed(
    found: ThroughputConclusion, *others: Line, x_marks: tuple[Mark, ...] = (), unit: str = "sample"
) -> Chart:
    """Return the speed at each micro-batch, with other lines beside it."""
    data = place_estimates((each.micro_batch_size, each.samples_per_s) for each in found.points)
    level = describe_saturation(found.saturation)
    return Chart(
        title="Speed against batch",
        caption=f"{begin_sentence(level)}; bars are intervals over sessions.",
        x_label="micro-batch, samples",
        y_label=f"{unit}s/s",
        lines=(Line("steps alone, measured", data), *others),
        x_marks=x_marks,
    )


def brief_throughput(conclusions: Conclusions) -> Status | None:
    """Return where larger batches stop being faster, in a few words."""
    found = conclusions.of(THROUGHPUT)
    if found is None or not found.points:
        return Status("Throughput", conclusions.record.why_missing, "skipped")
    saturation, sessions = found.saturation, max(point.sessions for point in found.points)
    count = f"after {count_of(sessions, 'session')}"
    if saturation.status == "inconclusive":
        return Status("Throughput", f"where it flattens is not settled {count}", "inconclusive")
    text = f"still rising at micro-batch {format_count(found.points[-1].micro_batch_size)}"
    if saturation.batch_size is not None:
        size = format_count(saturation.batch_size)
        text = f"flat within 5 % from micro-batch {size} on"
    return Status("Throughput", f"{text}, {count}")


def tell_speed(conclusions: Conclusions) -> Told:
    """Return what holds the speed, the energy, missing counters and what disturbed the sessions."""
    found, record = conclusions.of(THROUGHPUT), conclusions.record
    if found is None:
        return Told()
    limit = found.speed_limit
    rows = (
        ("Speed limit", "" if limit is None else describe_speed_limit(limit)),
        ("Energy", describe_energy(found)),
        ("Counters", describe_missing_counters(record.all(TELEMETRY), record.environment)),
        *(("Disturbed", each) for each in found.disturbances),
    )
    return Told(rows=tuple(Row(label, text) for label, text in rows if text))


def describe_throughput(throughput: ThroughputConclusion) -> str:
    """Return where larger batches stop being faster, and how well sessions agree."""
    return "; ".join((describe_saturation(throughput.saturation), *_list_agreement(throughput)))


def _list_agreement(throughput: ThroughputConclusion) -> Iterator[str]:
    if (fall := throughput.fall) is not None:
        peak = format_count(fall.peak_micro_batch_size)
        yield (
            f"batch {format_count(fall.micro_batch_size)} is {_format_share(fall.slower_fraction)}"
            f" slower than {peak}, the fastest: stay at or below {peak}"
        )
    half = throughput.half_saturation_batch_size
    if (half.point or half.low or 0.0) >= 1.0:  # nothing is smaller than a batch of one
        yield f"half of the limit's speed at batch {format_interval(half)}"
    spread = throughput.session_spread_fraction
    if spread is not None:
        is_known = spread <= _MOST_TOLD_FRACTION
        agree = f"sessions agree within ± {format_number(100 * spread)} %"
        yield agree if is_known else "sessions do not agree"
    size, half_width = throughput.decisive_micro_batch_size, throughput.half_width_fraction
    if size is not None and half_width is not None:
        sessions = next(p.sessions for p in throughput.points if p.micro_batch_size == size)
        known = f"known to ± {format_number(100 * half_width)} %"
        if half_width > _MOST_TOLD_FRACTION:
            known = "not known well"
        yield f"at batch {format_count(size)} {known} after {count_of(sessions, 'session')}"


def _format_share(share: Estimate, *, loses: bool = False) -> str:
    sign = -100 if loses else 100
    return f"{format_interval(share.map(lambda each: sign * each, falls=loses))} %"


def describe_saturation(saturation: Saturation) -> str:
    """Return where the throughput curve flattens, with its interval, or how much it still rises."""
    size, needed = saturation.batch_size, saturation.needed_batch_size
    if size is None:
        level = _describe_gain(saturation)
    else:
        near = format_range(saturation.low, saturation.high)
        interval = "" if near == NOT_MEASURED else f" ({near})"
        level = f"from batch {format_count(size)}{interval} on, larger ones are at most 5 % faster"
    need = "" if needed is None else f"the fitted law puts its end at about {format_count(needed)}"
    return "; ".join(filter(None, (_STATUSES[saturation.status], level, need)))


def _describe_gain(saturation: Saturation) -> str:
    """Return what the last doubling gains, where that is the answer or keeps it open."""
    gain, is_open = saturation.last_gain, saturation.status == "inconclusive"
    if saturation.is_range_short:
        return f"{_RANGE_ENDS[saturation.range_end or 'cap']} ends before three sizes can be timed"
    if gain is None or gain.point is None:
        return "fewer than three sizes or two sessions were timed: raise --budget" * is_open
    last = saturation.range_end
    end = "" if last is None else f", where {_RANGE_ENDS[last]} ends,"
    told = f"gains {_format_share(gain)} more throughput"
    if gain.point < 0.0:
        told = f"loses {_format_share(gain, loses=True)} of the throughput"
    contradiction = (
        ": sessions contradict each other by more than the 5 % that decide; leave the machine "
        "idle meanwhile, or raise --budget for more of them"
    )
    return f"the last doubling{end} {told}{contradiction * is_open}"


def describe_speed_limit(limit: SpeedLimit) -> str:
    """Return what binds at the decisive size; empty where no figure is known."""
    share = "" if limit.fixed_fraction is None else f" {100 * limit.fixed_fraction:.0f} %"
    binds = "" if limit.kind is None else _LIMITS[limit.kind].format(share=share)
    figures = ", ".join(_list_figures(limit))
    at = f"at batch {format_count(limit.micro_batch_size)}: {figures}" if figures else ""
    return "; ".join(filter(None, (binds, at)))


def _list_figures(limit: SpeedLimit) -> Iterator[str]:
    if limit.flops_fraction is not None and limit.peak is not None:
        yield f"{format_percent(limit.flops_fraction)} {_PEAKS[limit.peak]}"
    if limit.bandwidth_fraction is not None:
        yield f"at least {format_percent(limit.bandwidth_fraction)} of the memory's bandwidth"
    if limit.enqueue_fraction is not None:
        yield f"the host issued work for {format_percent(limit.enqueue_fraction)} of a step"
    if limit.kind == "heap" and limit.kernel_time_fraction is not None:
        yield (
            f"{format_percent(limit.kernel_time_fraction)} of the processors' time went to the "
            f"kernel, for {format_count(round(limit.page_faults_per_step or 0))} page faults a step"
        )


def describe_energy(throughput: ThroughputConclusion) -> str:
    """Return the cheapest batch in energy beside the fastest; empty without an energy counter."""
    cheapest = throughput.cheapest_micro_batch_size
    known = {p.micro_batch_size: p for p in throughput.points if p.energy_per_sample_j is not None}
    if cheapest not in known:
        return ""
    fastest = max(known, key=lambda size: known[size].samples_per_s.point or 0.0)
    joules, most = (
        f"{format_interval(known[size].energy_per_sample_j)} J for each sample"
        for size in (cheapest, fastest)
    )
    text = f"batch {format_count(cheapest)} is the cheapest, {joules}"
    beside = f"; the fastest, {format_count(fastest)}, takes {most}"
    return text if fastest == cheapest else text + beside
