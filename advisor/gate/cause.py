"""What is likely behind a change for the worse: the machine, the code, the stack, or unknown.

The machine comes first: where a fixed product slowed down as well, or others computed beside it,
nothing is known of the code. Then what only code can change, then the versions below it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from advisor.gate.data import Cause, CauseKind, Difference, Occasion, Session
from advisor.statistics import median
from advisor.units import format_percent

#: Of a change, the share that the machine's own must reach to explain it.
_SHARE = 0.5
#: Share of the processors' time, and of the clock held down, that is more than usual.
_FOREIGN_FRACTION, _HELD_FRACTION = 0.1, 0.05
#: Of bytes or operators, a change that only other code makes.
_CODE_FRACTION = 0.005
HOLDERS = {"thermal": "heat", "brake": "the power brake", "power_cap": "the power cap"}


def find_cause(
    old: Occasion, new: Occasion, change: float, differences: Sequence[Difference]
) -> Cause:
    """Return what is likely behind steps whose seconds changed by so much, relative."""
    seen: dict[CauseKind, Iterator[str]] = {
        "machine": _see_machine(old, new, change),
        "code": _see_code(old, new),
        "stack": (f"{each.name} is {each.new}, and was {each.old}" for each in differences),
        "unknown": iter(
            ["operators, memory, the stack and the machine's own speed are as they were"]
        ),
    }
    return next(Cause(kind=kind, evidence=told) for kind, found in seen.items() for told in found)


def _see_machine(old: Occasion, new: Occasion, change: float) -> Iterator[str]:
    product = _compare(old, new, lambda each: each.product_s)
    if product is not None and _explains(product, change):
        yield f"a fixed matrix product takes {format_percent(product)} more time as well"
    clock = _compare(old, new, lambda each: [each.sm_clock_mhz] if each.sm_clock_mhz else [])
    if clock is not None and _explains(1.0 / (1.0 + clock) - 1.0, change):
        yield f"the card's clock is {format_percent(-clock)} lower"
    usual, now = (
        [share for each in side.sessions if (share := each.foreign_cpu_fraction) is not None]
        for side in (old, new)
    )
    if now and median(now) > median(usual or [0.0]) + _FOREIGN_FRACTION:
        yield f"other processes take {format_percent(median(now))} of the processors' time"
    for name, holder in HOLDERS.items():
        before, after = (
            fmean([each.held_fraction.get(name, 0.0) for each in side.sessions] or [0.0])
            for side in (old, new)
        )
        if after > before + _HELD_FRACTION:
            yield f"{holder} holds the clock down for {format_percent(after)} of the time"


def _see_code(old: Occasion, new: Occasion) -> Iterator[str]:
    if old.operators and new.operators and old.operators != new.operators:
        yield f"a step launches {new.operators:,} operators, and launched {old.operators:,}"
    size = old.setting.micro_batch_size
    before, after = (list_peak_bytes(side, size) for side in (old, new))
    more = median(after) / median(before) - 1.0 if before and after else 0.0
    if abs(more) > _CODE_FRACTION:
        word = "more" if more > 0 else "less"
        yield f"it takes {format_percent(abs(more))} {word} memory as well"


def list_peak_bytes(side: Occasion, micro_batch_size: int) -> list[int]:
    """Return the bytes of every peak at a size that fitted."""
    mine = (peak.peak_bytes for peak in side.peaks if peak.micro_batch_size == micro_batch_size)
    return [peak_bytes for peak_bytes in mine if peak_bytes is not None]


def _compare(
    old: Occasion, new: Occasion, read: Callable[[Session], Sequence[float]]
) -> float | None:
    """Return by how much the median of a figure of the sessions is more than it was."""
    before, after = (
        [value for each in side.sessions for value in read(each)] for side in (old, new)
    )
    return median(after) / median(before) - 1.0 if before and after else None


def _explains(machine: float, change: float) -> bool:
    return machine > 0.0 and math.log1p(machine) >= _SHARE * math.log1p(change)
