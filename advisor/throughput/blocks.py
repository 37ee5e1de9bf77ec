"""What the counters say about each timed block: its energy, and whether something held it down.

samples   |    |    |    |    |    |    |    |      every counter, from outside of the worker
blocks      [=======]    [========]   [=======]
bracket    |_________|  |__________| |_________|    the samples nearest outside of the block
"""

import bisect
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from advisor.device.data import Telemetry
from advisor.memory.data import Probe

#: Causes for which a block is discarded: the speed is then that of the cooling or of the power
#: supply. A power cap is how the machine is set up: it is named, and its blocks count.
INVALIDATING_CAUSES = ("thermal", "brake")
#: Share of the bracket's time held down from which on it counts; less is the counters' own grain.
HELD_DOWN_FRACTION = 0.02


class Valid(msgspec.Struct, frozen=True, kw_only=True):
    """The probes without the blocks that do not count.

    Attributes:
        probes: In the order they ran; one without any block left is left out.
        discarded: Blocks left out, by cause.
    """

    probes: tuple[Probe, ...]
    discarded: dict[str, int]


def discard_held_blocks(probes: Sequence[Probe], telemetry: Sequence[Telemetry]) -> Valid:
    """Return the probes without the blocks during which heat or the brake held the clock down.

    Args:
        probes: Of any stage; those of throughput are judged.
        telemetry: One for each session, where there is any.

    Source: derived.
    """
    by_session = {each.session: each for each in telemetry if each.slowdown_s}
    kept, discarded = [], dict.fromkeys(INVALIDATING_CAUSES, 0)
    for probe in probes:
        counters = by_session.get(probe.session) if probe.stage == "throughput" else None
        if counters is None or not probe.block_spans_s:
            kept.append(probe)
            continue
        causes = [_find_cause(counters, span) for span in probe.block_spans_s]
        for cause in causes:
            if cause is not None:
                discarded[cause] += 1
        if any(cause is None for cause in causes):
            kept.append(_keep_blocks(probe, [cause is None for cause in causes]))
    found = {cause: count for cause, count in discarded.items() if count}
    return Valid(probes=tuple(kept), discarded=found)


def measure_held_fraction(
    probes: Sequence[Probe], telemetry: Sequence[Telemetry], cause: str
) -> float | None:
    """Return the share of the timed blocks' time that a cause held the clock down.

    None where no counter tells.

    Source: derived.
    """
    by_session = {each.session: each for each in telemetry}
    held_s = total_s = 0.0
    for probe in probes:
        counters = by_session.get(probe.session)
        if probe.stage != "throughput" or counters is None:
            continue
        series = counters.slowdown_s.get(cause)
        for span in probe.block_spans_s if series else ():
            bracket = _bracket(counters.at_s, span)
            if bracket is not None and series:
                first, last = bracket
                held_s += series[last] - series[first]
                total_s += counters.at_s[last] - counters.at_s[first]
    return held_s / total_s if total_s else None


def measure_block_energy_j(telemetry: Telemetry, span_s: tuple[float, float]) -> float | None:
    """Return the joules of one block, the counter taken to rise evenly between two samples.

    None without such a counter, or where the samples do not reach around the block.

    Source: derived; linear interpolation.
    """
    if not telemetry.energy_j or _bracket(telemetry.at_s, span_s) is None:
        return None
    began, ended = np.interp(span_s, telemetry.at_s, telemetry.energy_j)
    return float(ended - began)


def select_in_blocks(
    probes: Sequence[Probe], telemetry: Telemetry, values: Sequence[float]
) -> list[float]:
    """Return the values of a series that were sampled while a block of that session ran."""
    spans = [
        span
        for probe in probes
        if probe.stage == "throughput" and probe.session == telemetry.session
        for span in probe.block_spans_s
    ]
    return [
        value
        for at_s, value in zip(telemetry.at_s, values, strict=True)
        if any(began <= at_s <= ended for began, ended in spans)
    ]


def _find_cause(telemetry: Telemetry, span_s: tuple[float, float]) -> str | None:
    """Return what held the clock down during the block, None where nothing is known to have."""
    bracket = _bracket(telemetry.at_s, span_s)
    if bracket is None:
        return None
    first, last = bracket
    length_s = telemetry.at_s[last] - telemetry.at_s[first]
    held: Mapping[str, float] = {
        cause: telemetry.slowdown_s[cause][last] - telemetry.slowdown_s[cause][first]
        for cause in INVALIDATING_CAUSES
        if cause in telemetry.slowdown_s
    }
    worst = max(held, key=lambda cause: held[cause], default=None)
    return worst if worst and held[worst] > HELD_DOWN_FRACTION * length_s else None


def _bracket(at_s: Sequence[float], span_s: tuple[float, float]) -> tuple[int, int] | None:
    """Return the last sample before the block and the first after it, None without either."""
    first = bisect.bisect_right(at_s, span_s[0]) - 1
    last = bisect.bisect_left(at_s, span_s[1])
    return (first, last) if first >= 0 and last < len(at_s) else None


def _keep_blocks(probe: Probe, kept: Sequence[bool]) -> Probe:
    """Return the probe with the series of its blocks cut to those kept."""
    if all(kept):
        return probe
    series = (
        "step_times_s",
        "block_spans_s",
        "block_steps",
        "device_step_times_s",
        "enqueue_times_s",
        "micro_step_times_s",
    )
    changes = {
        name: tuple(value for value, keep in zip(values, kept, strict=True) if keep)
        for name in series
        if len(values := getattr(probe, name)) == len(kept)
    }
    return msgspec.structs.replace(probe, **changes)
