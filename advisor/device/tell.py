"""Which counters a run had to do without, and why."""

from collections.abc import Iterable, Sequence

from advisor.device.data import Environment, Telemetry

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
#: A machine without a GPU has none of its counters, and nobody misses them.
_NO_LOSS = "no_device"


def describe_missing_counters(
    telemetry: Sequence[Telemetry], environment: Environment | None
) -> str | None:
    """Return `no energy (no_permission); no clocks, heat (mig)`; None where nothing is missing.

    A counter that only some of the sessions lack comes with their number.
    """
    of = len(telemetry)
    is_cpu = environment is not None and environment.device.kind == "cpu"
    groups: dict[tuple[str, int], list[str]] = {}
    for (name, reason), sessions in _count_sessions(telemetry).items():
        if name in _UNKNOWN and not (is_cpu and reason == _NO_LOSS):
            groups.setdefault((reason, sessions), []).append(name)
    order = list(_UNKNOWN)
    parts = []
    for (reason, sessions), names in groups.items():
        words = ", ".join(_UNKNOWN[name] for name in sorted(names, key=order.index))
        some = "" if sessions == of else f", {sessions} of {of} sessions"
        parts.append((min(map(order.index, names)), f"no {words} ({reason}{some})"))
    return "; ".join(text for _, text in sorted(parts)) or None


def _count_sessions(telemetry: Iterable[Telemetry]) -> dict[tuple[str, str], int]:
    """Return in how many sessions each counter was missing, by its name and the reason."""
    counts: dict[tuple[str, str], int] = {}
    for each in telemetry:
        for counter in each.counters:
            if counter.missing_because is not None:
                key = (counter.name, counter.missing_because)
                counts[key] = counts.get(key, 0) + 1
    return counts
