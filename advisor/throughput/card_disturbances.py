"""What the card's counters say disturbed the sessions: its power limit, others in its memory."""

from collections.abc import Iterator, Sequence

from advisor.device.data import Environment, Telemetry
from advisor.device.power_cap import find_power_cap
from advisor.memory.data import Probe
from advisor.statistics import median
from advisor.throughput.blocks import measure_held_fraction, select_in_blocks
from advisor.units import render_bytes

#: Share of the timed blocks' time under a power cap from which on it is named.
POWER_CAP_FRACTION = 0.05
#: Share of the power limit from which on a card counts as being at it: cards keep their power a
#: little below the limit, and NVML's reading is an average with an error of a few watts.
AT_POWER_LIMIT_FRACTION = 0.97
#: Memory of others that goes unnamed: about what a process takes that opened the device and does
#: nothing, or a desktop. One that computes holds more.
FOREIGN_MEMORY_BYTES = 256 * 2**20


def name_power_limit(
    probes: Sequence[Probe], telemetry: Sequence[Telemetry], environment: Environment | None
) -> Iterator[str]:
    """Yield one sentence where a power limit holds the card down or may do so.

    Named are a clock that the limit held down, power at the limit, and a limit below the card's
    default, whichever are known; one sentence has all of them.

    Args:
        probes: Of throughput, those that count.
        telemetry: One for each session, where there is any.
        environment: Whose counters have the limits, where the run knows it.

    Source: derived.
    """
    counters = () if environment is None else environment.counters
    cap = find_power_cap(counters)
    limit_w = next((each.value for each in counters if each.name == "power_limit"), None)
    held = measure_held_fraction(probes, telemetry, "power_cap")
    power_w = _measure_power_w(probes, telemetry)
    parts = []
    if held is not None and held > POWER_CAP_FRACTION:
        parts.append(
            f"the power cap held the clock down for {100 * held:.0f} % of the timed blocks"
        )
    if limit_w and power_w is not None and power_w >= AT_POWER_LIMIT_FRACTION * limit_w:
        parts.append(f"the card drew {power_w:.0f} W, at its power limit of {limit_w:.0f} W")
    if cap is not None:
        parts.append(
            f"a power cap is set: {cap.limit_w:.0f} W, where the card's default is "
            f"{cap.default_w:.0f} W"
        )
    if parts:
        yield "; ".join(parts)


def _measure_power_w(probes: Sequence[Probe], telemetry: Sequence[Telemetry]) -> float | None:
    """Return the median power over the timed blocks, None where it was not sampled."""
    seen = [
        power_w
        for each in telemetry
        if each.power_w
        for power_w in select_in_blocks(probes, each, each.power_w)
    ]
    return median(seen) if seen else None


def name_memory_of_others(
    probes: Sequence[Probe], telemetry: Sequence[Telemetry], environment: Environment | None
) -> Iterator[str]:
    """Yield that others held memory of the device while sessions were timed.

    Where the driver does not list our own processes (`own_memory`: `pids_not_listed`), the counter
    is what was in use before the worker started, which might be what an earlier one left behind
    for a moment: then only what every session found counts, and that is a lower bound.

    Args:
        probes: Of throughput, those that count.
        telemetry: One for each session, where there is any.
        environment: Whose device has so much memory, where the run knows it.

    Source: derived.
    """
    held = [
        median(values)
        for each in telemetry
        if each.foreign_memory_bytes
        and (values := select_in_blocks(probes, each, each.foreign_memory_bytes))
    ]
    is_listed = all(counter.name != "own_memory" for each in telemetry for counter in each.counters)
    most_bytes = (max if is_listed else min)(held, default=0.0)
    if most_bytes <= FOREIGN_MEMORY_BYTES:
        return
    share = ""
    if environment is not None and environment.device.memory_bytes:
        share = f" ({100 * most_bytes / environment.device.memory_bytes:.0f} %)"
    when = "during a session" if is_listed else "before each session, and more later is not seen"
    yield (
        f"other processes held {'up to' if is_listed else 'at least'} {render_bytes(most_bytes)}"
        f"{share} of the device's memory {when}: they may compute too, so leave the device to "
        "the probe alone"
    )
