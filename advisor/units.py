"""Numbers for people: three significant digits, MiB and GiB, times, intervals."""

import math

from advisor.statistics import Estimate

NOT_MEASURED = "not measured"

#: Significant digits that people compare by; the JSON document keeps all of them.
SIGNIFICANT_DIGITS = 3

_SIZE_UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_SHORT_TIME_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))


def format_number(value: float) -> str:
    """Return `value` with three significant digits: `1.41`, `12,300`, `0.420`, `1.5e-06`."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -5 < exponent < 9:
        return f"{value:.{SIGNIFICANT_DIGITS}g}"
    rounded = round(value, SIGNIFICANT_DIGITS - 1 - exponent)
    # Rounding may carry into the next decade: 9.996 is 10.0, not 10.00.
    decimals = max(0, SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def format_figure(value: float, digits: int = SIGNIFICANT_DIGITS) -> str:
    """Return three significant digits for a sentence or a rate: `0.0123`, `12300`, `0.1`."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:.0f}" if abs(rounded) >= 1e5 else f"{rounded:g}"


def format_percent(fraction: float, *, decimals: int | None = None) -> str:
    """Return a fraction in per cent: two significant digits below 100 %, or so many decimals."""
    value = 100.0 * fraction
    if decimals is None and value < 100.0:
        return f"{float(f'{value:.2g}'):g} %"
    return f"{value:z.{decimals or 0}f} %"  # z: no minus before a zero


def format_ratio(value: float) -> str:
    """Return how many times something is something else: `1.25 ×`."""
    return f"{value:.2f} ×"


def format_count(value: int) -> str:
    """Return a whole number exactly, with thousands apart."""
    return f"{value:,}"


def format_bytes(value: float) -> str:
    """Return a size in GiB, MiB, KiB or bytes."""
    factor, unit = choose_size_unit(value)
    return f"{value:.0f} B" if factor == 1 else f"{format_number(value / factor)} {unit}"


def choose_size_unit(value: float) -> tuple[int, str]:
    """Return the bytes and the name of the unit that a size is told in."""
    return next(
        ((factor, unit) for unit, factor in _SIZE_UNITS if abs(value) >= factor), (1, "bytes")
    )


def format_duration(seconds: float) -> str:
    """Return a time: `1.24 ms`, `12.3 s`, `2 min 5 s`, `1 h 3 min`."""
    if seconds >= 3600:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes} min"
    if seconds >= 60:
        minutes, whole = divmod(round(seconds), 60)
        return f"{minutes} min {whole} s"
    unit, factor = next((each for each in _SHORT_TIME_UNITS if seconds >= each[1]), ("µs", 1e-6))
    return f"{format_number(seconds / factor)} {unit}"


def format_spread(estimate: Estimate | None) -> str:
    """Return `12,300 ± 150`, the wider side of the interval; without one, the point alone.

    An interval of a positive figure that ends beyond twice the figure counts as none.
    """
    if estimate is None or estimate.point is None:
        return _format_open(estimate)
    point, half_width = format_number(estimate.point), math.inf
    if estimate.low is not None and estimate.high is not None:
        half_width = max(estimate.high - estimate.point, estimate.point - estimate.low)
    if half_width == math.inf or (half_width > estimate.point and (estimate.low or 0.0) >= 0.0):
        return f"{point} (no interval)"
    # No more decimals than the point shows: they would promise what the point does not hold.
    decimals = len(point.partition(".")[2])
    if 0 < half_width < 0.5 * 10**-decimals:  # but it is never rounded away to zero
        return f"{point} ± {half_width:.1g}"
    wide = format_number(half_width) if half_width >= 100 else f"{half_width:.{decimals}f}"
    return f"{point} ± {wide}"


def format_interval(estimate: Estimate | None) -> str:
    """Return `57 (31 to 120)`; an unknown upper end makes it `≥ 31`."""
    if estimate is None or estimate.point is None or estimate.high is None:
        return _format_open(estimate)
    low = "?" if estimate.low is None else format_number(estimate.low)
    return f"{format_number(estimate.point)} ({low} to {format_number(estimate.high)})"


def _format_open(estimate: Estimate | None) -> str:
    """Return what is known of an estimate that lacks its point or its upper end."""
    if estimate is not None and estimate.low is not None:
        return f"≥ {format_number(estimate.low)}"
    if estimate is not None and estimate.point is not None:
        return f"{format_number(estimate.point)} (no interval)"
    return NOT_MEASURED


def format_range(low: int | None, high: int | None) -> str:
    """Return `64 to 256`, `≥ 64`, `≤ 256` or `not measured`."""
    if low is None and high is None:
        return NOT_MEASURED
    if low is None or high is None:
        return f"≥ {low:,}" if high is None else f"≤ {high:,}"
    return f"{low:,} to {high:,}"


def begin_sentence(text: str) -> str:
    """Return the text with its first letter as a sentence has it; the others as they are."""
    return f"{text[:1].upper()}{text[1:]}"


def count_of(count: int, noun: str) -> str:
    """Return `1 probe`, `2 probes`."""
    return f"{format_count(count)} {noun}{'' if count == 1 else 's'}"


def render_bytes(value: float) -> str:
    """Return a size as in a sentence, in MiB below one GiB: `2 MiB`, `1.5 GiB`."""
    unit, factor = ("GiB", 2**30) if value >= 2**30 else ("MiB", 2**20)
    return f"{format_figure(value / factor)} {unit}"
