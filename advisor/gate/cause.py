"""What is likely behind a change for the worse: the machine, the code, the stack, or unknown.

The machine comes first: where a fixed product slowed down as well, or others computed beside it,
nothing is known of the code. Then what only code can change, then the versions below it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from advisor.gate.data import Cause, Occasion, Session, list_peaks, list_sessions
from advisor.gate.setting import list_differences
from advisor.statistics import median
from advisor.units import format_percent

#: Of a change, the share that the machine's own must reach to explain it.
_SHARE = 0.5
#: Share of the processors' time, and of the clock held down, that is more than usual.
_FOREIGN_FRACTION, _HELD_FRACTION = 0.1, 0.05
#: Of bytes or operators, a change that only other code makes.
_CODE_FRACTION = 0.005
HOLDERS = {"thermal": "heat", "brake": "the power brake", "power_cap": "the power cap"}


def find_cause(old: Sequence[Occasion], new: Sequence[Occasion], change: float) -> Cause:
    """Return what is likely behind steps that take longer.

    The change is that of seconds, relative.
    """
    for told in _see_machine(old, new, change):
        return Cause(kind="machine", evidence=told)
    for told in _see_code(old, new):
        return Cause(kind="code", evidence=told)
    stack = [each for each in list_differences(old, new) if each.tier == "stack"]
    for each in stack:
        return Cause(kind="stack", evidence=f"{each.name} is {each.new}, and was {each.old}")
    return Cause(
        kind="unknown",
        evidence="operators, memory, the stack and the machine's own speed are as they were",
    )


def _see_machine(old: Sequence[Occasion], new: Sequence[Occasion], change: float) -> Iterator[str]:
    product = _compare(old, new, lambda session: session.product_s)
    if product is not None and _explains(product, change):
        yield f"a fixed matrix product takes {format_percent(product)} more time as well"
    clock = _compare(old, new, lambda each: [each.sm_clock_mhz] if each.sm_clock_mhz else [])
    if clock is not None and _explains(1.0 / (1.0 + clock) - 1.0, change):
        yield f"the card's clock is {format_percent(-clock)} lower"
    before, after = (
        [share for each in list_sessions(side) if (share := each.foreign_cpu_fraction) is not None]
        for side in (old, new)
    )
    if after and median(after) > (median(before) if before else 0.0) + _FOREIGN_FRACTION:
        yield f"other processes take {format_percent(median(after))} of the processors' time"
    for name, holder in HOLDERS.items():
        held = [
            fmean([each.held_fraction.get(name, 0.0) for each in list_sessions(side)] or [0.0])
            for side in (old, new)
        ]
        if held[1] > held[0] + _HELD_FRACTION:
            yield f"{holder} holds the clock down for {format_percent(held[1])} of the time"


def _see_code(old: Sequence[Occasion], new: Sequence[Occasion]) -> Iterator[str]:
    counts = [
        next((each.operators for each in side if each.operators), None) for side in (old, new)
    ]
    if counts[0] and counts[1] and counts[0] != counts[1]:
        yield f"a step launches {counts[1]:,} operators, and launched {counts[0]:,}"
    size = old[0].setting.micro_batch_size
    peaks = [find_peak_bytes(side, size) for side in (old, new)]
    if peaks[0] and peaks[1] and abs(peaks[1] / peaks[0] - 1.0) > _CODE_FRACTION:
        change = peaks[1] / peaks[0] - 1.0
        word = "more" if change > 0 else "less"
        yield f"it takes {format_percent(abs(change))} {word} memory as well"


def find_peak_bytes(side: Sequence[Occasion], micro_batch_size: int) -> float | None:
    """Return the median peak at a size, None where none was measured or it did not fit."""
    seen = list_peak_bytes(side, micro_batch_size)
    return median(seen) if seen else None


def list_peak_bytes(side: Sequence[Occasion], micro_batch_size: int) -> list[int]:
    """Return the bytes of every peak at a size that fitted."""
    mine = (each for each in list_peaks(side) if each.micro_batch_size == micro_batch_size)
    return [peak.peak_bytes for peak in mine if peak.peak_bytes is not None]


def _compare(
    old: Sequence[Occasion], new: Sequence[Occasion], read: Callable[[Session], Sequence[float]]
) -> float | None:
    """Return by how much the median of a figure of the sessions is more than it was."""
    before, after = (
        [value for session in list_sessions(side) for value in read(session)] for side in (old, new)
    )
    return median(after) / median(before) - 1.0 if before and after else None


def _explains(machine: float, change: float) -> bool:
    return machine > 0.0 and math.log1p(machine) >= _SHARE * math.log1p(change)
