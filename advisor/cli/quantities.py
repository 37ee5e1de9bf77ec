"""Sizes, durations and settings as people type them, turned into bytes, seconds and pairs."""

import math
import re

import typer

#: Bytes of each unit of size; KiB counts in 1024s and KB in 1000s, as their names say.
BYTES_PER_UNIT = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    BYTES_PER_UNIT |= {f"{_letter}b": 1000**_power, f"{_letter}ib": 1024**_power}

#: Seconds of each unit of time.
SECONDS_PER_UNIT = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}

_QUANTITY = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_size(text: str) -> int:
    """Return bytes of `10GiB`, `512 MB` or a plain number; BadParameter for what is no size."""
    size = _parse(text, BYTES_PER_UNIT)
    if size is None:
        raise typer.BadParameter(
            f"{text!r} is not a size; write bytes, or a number with KiB, MiB, GiB, TiB, KB, MB, GB "
            "or TB, such as 10GiB"
        )
    return round(size)


def parse_memory_limit(text: str) -> int:
    """Return the bytes of a limit; BadParameter where it is no size, or zero."""
    if not (size_bytes := parse_size(text)):
        raise typer.BadParameter("a memory limit of zero leaves nothing to train in")
    return size_bytes


def parse_rate(text: str) -> float:
    """Return the learning rate of `0.1` or `1e-4`; BadParameter unless finite and above zero."""
    if not 0.0 < (rate := read_number(text)) < math.inf:
        raise typer.BadParameter(f"{text!r} is not a learning rate; write a number such as 1e-4")
    return rate


def read_number(text: str) -> float:
    """Return the number, NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def parse_duration(text: str) -> float:
    """Return the seconds of `90`, `90s`, `2m` or `1h`; BadParameter unless above zero."""
    if not (duration_s := _parse(text, SECONDS_PER_UNIT)):
        raise typer.BadParameter(
            f"{text!r} is not a duration above zero; write seconds, or a number with s, m or h, "
            "such as 120s or 2m"
        )
    return duration_s


def parse_counts(text: str, *, option: str, what: str) -> tuple[int, ...]:
    """Return the whole numbers above zero of a list with commas; BadParameter where one is none."""
    parts = [part.strip() for part in str(text).split(",")]
    for part in parts:
        if not part.isdecimal() or int(part) == 0:
            raise typer.BadParameter(f"{part!r} is not {what}", param_hint=option)
    return tuple(map(int, parts))


def parse_settings(pairs: list[str]) -> dict[str, str]:
    """Return `k=v` pairs, the last of equal names; BadParameter where one is no such pair."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip().isidentifier():
            raise typer.BadParameter(f"{pair!r} is not of the form name=value", param_hint="--set")
        settings[name.strip()] = value.strip()
    return settings


def _parse(text: str, units: dict[str, int] | dict[str, float]) -> float | None:
    matched = _QUANTITY.fullmatch(str(text))  # typer hands over defaults as they are
    if matched is None or matched[2].lower() not in units:
        return None
    value = float(matched[1]) * units[matched[2].lower()]
    return value if math.isfinite(value) else None
