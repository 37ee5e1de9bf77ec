"""What the counters say about each timed block: its energy, and whether something held it down.

samples   |    |    |    |    |    |    |    |      every counter, from outside of the worker
blocks      [=======]    [========]   [=======]
bracket    |_________|  |__________| |_________|    the samples nearest outside of the block
"""

import bisect
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from advisor.device.data import Telemetry
from advisor.memory.data import Probe

#: Causes for which a block is discarded: the speed is then that of the cooling or of the power
#: supply. A power cap is how the machine is set up: it is named, and its blocks count.
INVALIDATING_CAUSES = ("thermal", "brake")
#: Share of the bracket's time held down from which on it counts; less is the counters' own grain.
HELD_DOWN_FRACTION = 0.02
#: Share of all blocks above which they are no exception: passively cooled cards and laptops.
MOST_DISCARDED_FRACTION = 0.5
_SERIES = (
    "step_times_s",
    "low_step_times_s",
    "block_spans_s",
    "block_steps",
    "device_step_times_s",
    "enqueue_times_s",
    "micro_step_times_s",
)


class Valid(NamedTuple):
    """The probes without the blocks that do not count, and how many of these by cause."""

    probes: tuple[Probe, ...]
    discarded: dict[str, int]


def discard_held_blocks(probes: Sequence[Probe], telemetry: Sequence[Telemetry]) -> Valid:
    """Return the probes without the blocks during which heat or the brake held the clock down.

    Only probes of throughput are judged; one without any block left is left out. Where most blocks
    were held down, that is how the card runs, and all count.
    """
    by_session = {each.session: each for each in telemetry if each.slowdown_s}
    kept, discarded, judged = [], Counter[str](), 0
    for probe in probes:
        counters = by_session.get(probe.session) if probe.stage == "throughput" else None
        if counters is None or not probe.block_spans_s:
            kept.append(probe)
            continue
        causes = [_find_cause(counters, span) for span in probe.block_spans_s]
        judged += len(causes)
        discarded.update(cause for cause in causes if cause is not None)
        is_kept = [cause is None for cause in causes]
        if any(is_kept):
            series = {name: getattr(probe, name) for name in _SERIES}
            changes = {
                name: tuple(itertools.compress(values, is_kept))
                for name, values in series.items()
                if len(values) == len(is_kept)
            }
            kept.append(replace(probe, **changes))
    if discarded.total() > MOST_DISCARDED_FRACTION * judged:
        return Valid(tuple(probes), {})
    found = {cause: discarded[cause] for cause in INVALIDATING_CAUSES if discarded[cause]}
    return Valid(tuple(kept), found)


def measure_held_fraction(
    probes: Sequence[Probe], telemetry: Sequence[Telemetry], cause: str
) -> float | None:
    """Return the share of the timed blocks' time that a cause held the clock down, where known."""
    held_s = total_s = 0.0
    for counters in telemetry:
        for span in _spans(probes, counters) if counters.slowdown_s.get(cause) else ():
            bracket = _bracket(counters.at_s, span)
            if bracket is not None:
                held_s += _difference(counters.slowdown_s[cause], bracket)
                total_s += _difference(counters.at_s, bracket)
    return held_s / total_s if total_s else None


def measure_block_energy_j(telemetry: Telemetry, span_s: tuple[float, float]) -> float | None:
    """Return the joules of one block, the counter taken to rise evenly between two samples.

    None without such a counter, or where the samples do not reach around the block.
    """
    if not telemetry.energy_j or _bracket(telemetry.at_s, span_s) is None:
        return None
    began, ended = np.interp(span_s, telemetry.at_s, telemetry.energy_j)
    return float(ended - began)


def select_in_blocks(
    probes: Sequence[Probe], telemetry: Telemetry, values: Sequence[float]
) -> list[float]:
    """Return the values of a series that were sampled while a block of that session ran."""
    spans = [*_spans(probes, telemetry)]
    return [
        value
        for at_s, value in zip(telemetry.at_s, values, strict=True)
        if any(began <= at_s <= ended for began, ended in spans)
    ]


def _spans(probes: Sequence[Probe], telemetry: Telemetry) -> Iterator[tuple[float, float]]:
    for probe in probes:
        if probe.stage == "throughput" and probe.session == telemetry.session:
            yield from probe.block_spans_s


def _find_cause(telemetry: Telemetry, span_s: tuple[float, float]) -> str | None:
    """Return what held the clock down during the block, None where nothing is known to have."""
    bracket = _bracket(telemetry.at_s, span_s)
    if bracket is None:
        return None
    held_s = {
        cause: _difference(telemetry.slowdown_s[cause], bracket)
        for cause in INVALIDATING_CAUSES
        if cause in telemetry.slowdown_s
    }
    worst = max(held_s, key=lambda cause: held_s[cause], default=None)
    least_s = HELD_DOWN_FRACTION * _difference(telemetry.at_s, bracket)
    return worst if worst and held_s[worst] > least_s else None


def _difference(series: Sequence[float], bracket: tuple[int, int]) -> float:
    first, last = bracket
    return series[last] - series[first]


def _bracket(at_s: Sequence[float], span_s: tuple[float, float]) -> tuple[int, int] | None:
    """Return the last sample before the block and the first after it, None without either."""
    first = bisect.bisect_right(at_s, span_s[0]) - 1
    last = bisect.bisect_left(at_s, span_s[1])
    return (first, last) if first >= 0 and last < len(at_s) else None
