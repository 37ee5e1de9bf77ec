"""One paragraph for each finding; a figure that was not measured is said to be missing, and why."""

from advisor.advice.tell import tell_advice, tell_plans
from advisor.derived import Derived, GivenConclusions
from advisor.device.tell import describe_missing_counters
from advisor.engine.run_record import RunRecord
from advisor.loader.tell import describe_loader
from advisor.memory.tell import describe_memory, explain_peaks
from advisor.noise.tell import describe_noise
from advisor.sharpness.tell import describe_sharpness
from advisor.soak.tell import describe_soak
from advisor.statistics import Estimate
from advisor.throughput.data import (
    Saturation,
    SaturationStatus,
    ThroughputConclusion,
    ThroughputFall,
)
from advisor.throughput.tell import describe_energy, describe_speed_limit
from advisor.units import (
    NOT_MEASURED,
    count_of,
    format_count,
    format_interval,
    format_number,
    format_range,
)
from advisor.variants.tell import describe_compilation
from advisor.verify.tell import tell_verification

_SATURATION: dict[SaturationStatus, str] = {
    "saturated": "",
    "memory_limited": "not reached: memory ends first",
    "host_bound": "the host, not the device, limits throughput",
    "retrograde": "the largest batches are slower than smaller ones",
    "inconclusive": "inconclusive: the measured sizes do not tell where it lies",
}


def render_findings(record: RunRecord, derived: Derived) -> list[tuple[str, str]]:
    """Return (label, paragraph) for each part of the run, missing parts included."""
    missing = f"{NOT_MEASURED}: {record.why_missing}"
    memory, throughput, noise = derived.memory, derived.throughput, derived.noise
    rows = [
        ("Memory", missing if memory is None else describe_memory(memory) + explain_peaks(record)),
        ("Saturation", missing if throughput is None else describe_throughput(throughput)),
        ("Noise scale", missing if noise is None else describe_noise(noise)),
    ]
    if derived.sharpness is not None:
        rows.append(("Sharpness", describe_sharpness(derived.sharpness)))
    if derived.loader is not None:
        rows.append(("Loader", describe_loader(derived.loader)))
    if throughput is not None:
        limit = throughput.speed_limit
        speed = None if limit is None else describe_speed_limit(limit)
        rows += [] if speed is None else [("Speed limit", speed)]
        energy = describe_energy(throughput)
        rows += [] if energy is None else [("Energy", energy)]
        counters = describe_missing_counters(record)
        rows += [] if counters is None else [("Counters", counters)]
        rows += [("Disturbed", each) for each in throughput.disturbances]
    compilation = describe_compilation(record)
    rows += [] if compilation is None else [("Compiled", compilation)]
    if derived.soak is not None:
        rows.append(("Soak", describe_soak(derived.soak)))
    if derived.recommendation is None and memory is not None:  # no warnings name them
        rows += [("Memory", disturbance) for disturbance in memory.disturbances]
    known = GivenConclusions(record, derived)
    rows += [
        (row.label, row.text) for told in (tell_advice, tell_plans) for row in told(known).rows
    ]
    return rows + [(row.label, row.text) for row in tell_verification(derived.verification).rows]


def describe_throughput(throughput: ThroughputConclusion) -> str:
    """Return where larger batches stop being faster, and how well sessions agree."""
    parts = [describe_saturation(throughput.saturation)]
    if throughput.fall is not None:
        parts.append(describe_fall(throughput.fall))
    half = throughput.half_saturation_batch_size
    if half.point is not None or half.low is not None:
        parts.append(f"half of the limit's speed at batch {format_interval(half)}")
    if throughput.session_spread_fraction is not None:
        spread = format_number(100 * throughput.session_spread_fraction)
        parts.append(f"sessions agree within ± {spread} %")
    parts += _describe_precision(throughput)
    return "; ".join(parts)


def _describe_precision(throughput: ThroughputConclusion) -> list[str]:
    """Return how well the decisive throughput is known, and after how many sessions."""
    size, half_width = throughput.decisive_micro_batch_size, throughput.half_width_fraction
    if size is None or half_width is None:
        return []
    sessions = next(p.sessions for p in throughput.points if p.micro_batch_size == size)
    spread = f"± {format_number(100 * half_width)} %"
    after = count_of(sessions, "session")
    return [f"at batch {format_count(size)} known to {spread} after {after}"]


def describe_saturation(saturation: Saturation) -> str:
    """Return where the throughput curve flattens, with its interval, or why it is unknown."""
    size, needed = saturation.batch_size, saturation.needed_batch_size
    near = format_range(saturation.low, saturation.high)
    level = ""
    if size is not None:
        interval = "" if near == NOT_MEASURED else f" ({near})"
        level = f"from batch {format_count(size)}{interval} on, larger ones are at most 5 % faster"
    need = "" if needed is None else f"the fitted law puts it at about {format_count(needed)}"
    lead = _SATURATION[saturation.status]
    return "; ".join(part for part in (lead, level, need) if part)


def describe_fall(fall: ThroughputFall) -> str:
    """Return how much slower the largest size is than the fastest, and what to do about it."""
    slower = fall.slower_fraction
    point, low, high = (
        None if end is None else 100 * end for end in (slower.point, slower.low, slower.high)
    )
    percent = format_interval(Estimate(point, low, high, slower.confidence))
    peak = format_count(fall.peak_micro_batch_size)
    return (
        f"batch {format_count(fall.micro_batch_size)} is {percent} % slower than "
        f"{peak}, the fastest: stay at or below {peak}"
    )
