"""What the counters say about each timed block: its energy, and whether something held it down.

They are sampled from outside of the worker; between two samples a counter is taken to rise evenly.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import compress
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from advisor.device.data import Telemetry
from advisor.memory.data import Probe

#: Causes for which a block is discarded: the speed is then that of the cooling or of the power
#: supply. A power cap is how the machine is set up: it is named, and its blocks count.
INVALIDATING_CAUSES = ("thermal", "brake")
#: Share of a block's time held down from which on it counts; less is the counters' own grain.
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
Span = tuple[float, float]


class Valid(NamedTuple):
    """The probes without the blocks that do not count, and how many of these by cause."""

    probes: tuple[Probe, ...]
    discarded: dict[str, int]


def discard_held_blocks(probes: Sequence[Probe], telemetry: Sequence[Telemetry]) -> Valid:
    """Return the probes without the blocks during which heat or the brake held the clock down.

    Where most blocks were held down, that is how the card runs, and all count.
    """
    by_session = {each.session: each for each in telemetry if each.slowdown_s}
    kept, found, judged = [], Counter[str](), 0
    for probe in probes:
        counters = by_session.get(probe.session) if probe.stage == "throughput" else None
        causes = [_find_cause(counters, span) for span in probe.block_spans_s] if counters else []
        judged += len(causes)
        found.update(cause for cause in causes if cause is not None)
        is_kept = [cause is None for cause in causes]
        if all(is_kept):
            kept.append(probe)
        elif any(is_kept):
            series = {name: getattr(probe, name) for name in _SERIES}
            left = {
                name: tuple(compress(values, is_kept))
                for name, values in series.items()
                if len(values) == len(is_kept)
            }
            kept.append(replace(probe, **left))
    if found.total() > MOST_DISCARDED_FRACTION * judged:
        return Valid(tuple(probes), {})
    return Valid(
        tuple(kept), {cause: found[cause] for cause in INVALIDATING_CAUSES if found[cause]}
    )


def _find_cause(counters: Telemetry, span_s: Span) -> str | None:
    """Return what held the clock down during the block, None where nothing is known to have."""
    held_s = {
        cause: measure_rise(counters, counters.slowdown_s.get(cause, ()), span_s) or 0.0
        for cause in INVALIDATING_CAUSES
    }
    worst = max(INVALIDATING_CAUSES, key=held_s.__getitem__)
    return worst if held_s[worst] > HELD_DOWN_FRACTION * (span_s[1] - span_s[0]) else None


def measure_held_fraction(
    probes: Sequence[Probe], telemetry: Sequence[Telemetry], cause: str
) -> float | None:
    """Return the share of the timed blocks' time that a cause held the clock down, where known."""
    held = [
        (held_s, span[1] - span[0])
        for counters in telemetry
        for span in _list_spans(probes, counters)
        if (held_s := measure_rise(counters, counters.slowdown_s.get(cause, ()), span)) is not None
    ]
    held_s, total_s = np.sum([(0.0, 0.0), *held], axis=0)
    return float(held_s / total_s) if total_s else None


def measure_rise(telemetry: Telemetry, series: Sequence[float], span_s: Span) -> float | None:
    """Return by how much a counter rose; None where its samples do not reach around the block."""
    at_s = telemetry.at_s
    if not series or not at_s[0] <= span_s[0] or not span_s[1] <= at_s[-1]:
        return None
    began, ended = np.interp(span_s, at_s, series)
    return float(ended - began)


def select_in_blocks(
    probes: Sequence[Probe], telemetry: Telemetry, values: Sequence[float]
) -> list[float]:
    """Return the values of a series that were sampled while a block of that session ran."""
    spans = [*_list_spans(probes, telemetry)]
    return [
        value
        for at_s, value in zip(telemetry.at_s, values, strict=True)
        if any(began <= at_s <= ended for began, ended in spans)
    ]


def _list_spans(probes: Sequence[Probe], telemetry: Telemetry) -> Iterator[Span]:
    for probe in probes:
        if probe.stage == "throughput" and probe.session == telemetry.session:
            yield from probe.block_spans_s
