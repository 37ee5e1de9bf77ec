"""What the machine can measure, which counters a run had to do without, and why."""

from collections import Counter as Tally
from collections.abc import Iterator, Sequence

from advisor.device.counters import find_power_cap
from advisor.device.data import Counter, Environment, Telemetry
from advisor.telling import Row
from advisor.units import NOT_MEASURED, format_bytes, format_duration, format_number

#: What the reasons of missing counters mean.
_REASONS = {
    "not_supported": "the machine or its driver has no such counter",
    "no_permission": "this user may not read it",
    "no_driver": "NVIDIA's driver library cannot be used here",
    "no_device": "there is no NVIDIA GPU in use",
    "not_nvidia": "the GPU is not NVIDIA's, whose counters alone are read",
    "mig": "it belongs to the whole card, of which this is a MIG instance",
}
#: What is not known without a counter, by the counter's name, in the order of the report. Others
#: are told by `bsadvisor doctor` alone.
_UNKNOWN = {
    "energy": "energy",
    "power": "power",
    "sm_clock": "clocks",
    "slowdown_power_cap": "power cap",
    "slowdown_thermal": "heat",
    "slowdown_brake": "power brake",
    "foreign_memory": "memory of others",
    "own_memory": "memory of others that came later",
    "foreign_cpu": "load of others",
}


def tell_machine(environment: Environment) -> tuple[Row, ...]:
    """Return the device, the software, the counters, and why any is missing."""
    device = environment.device
    which = f"{device.kind}:{device.index}" if device.kind == "cuda" else device.kind
    memory, available = format_bytes(device.memory_bytes), format_bytes(device.available_bytes)
    return (
        Row("Device", f"{device.name} ({which})"),
        Row("Memory", f"{memory}, {available} available"),
        Row("Processor", f"{environment.cpu}, {environment.cpu_threads} threads"),
        Row("Platform", environment.platform),
        Row("Python", environment.python),
        Row("torch", environment.torch),
        Row("CUDA", environment.cuda or "none"),
        Row("Driver", environment.driver or "none"),
        Row("Timer step", _format_time(environment.timer_resolution_s)),
        Row("Worker start", _format_time(environment.worker_start_s)),
        *_tell_counters(environment.counters),
    )


def describe_missing_counters(
    telemetry: Sequence[Telemetry], environment: Environment | None
) -> str | None:
    """Return `no energy (no_permission); no clocks, heat (mig)`; None where nothing is missing.

    A counter that only some of the sessions lack comes with their number. On a CPU nobody misses
    the counters of a GPU.
    """
    is_cpu = environment is not None and environment.device.kind == "cpu"
    missing = Tally((each.name, each.missing_because) for one in telemetry for each in one.counters)
    groups: dict[tuple[str, int], list[str]] = {}
    for name, word in _UNKNOWN.items():
        for (lacking, reason), sessions in missing.items():
            if lacking == name and reason and not (is_cpu and reason == "no_device"):
                groups.setdefault((reason, sessions), []).append(word)
    parts = []
    for (reason, sessions), words in groups.items():
        some = "" if sessions == len(telemetry) else f", {sessions} of {len(telemetry)} sessions"
        parts.append(f"no {', '.join(words)} ({reason}{some})")
    return "; ".join(parts) or None


def _tell_counters(counters: Sequence[Counter]) -> Iterator[Row]:
    """Yield the counters that have a value, then the missing ones by reason."""
    cap = find_power_cap(counters)
    missing: dict[str, list[str]] = {}
    for counter in counters:
        label = counter.name.replace("_", " ")
        if counter.value is None:
            reason = counter.missing_because or "no reason was given"
            missing.setdefault(reason, []).append(label)
            continue
        note = ""
        if counter.name == "power_limit" and cap is not None:
            note = f", a power cap: the default is {format_number(cap.default_w)} W"
        yield Row(label, _format_value(counter.value, counter.unit) + note)
    for reason, labels in missing.items():
        yield Row("not available", f"{', '.join(labels)}: {_REASONS.get(reason, reason)}")


def _format_time(seconds: float | None) -> str:
    return NOT_MEASURED if seconds is None else format_duration(seconds)


def _format_value(value: float, unit: str | None) -> str:
    if unit == "B":
        return format_bytes(value)
    if unit == "fraction":
        return f"{value:.0%}"
    if unit == "s":
        return format_duration(value) if value else "0 s"
    return f"{format_number(value)} {unit or ''}".rstrip()
