"""What reads counters of the machine, each optional with the reason why it is missing."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from advisor.device.data import Counter

#: By the error's type. NVML's own are made at run time, so they are known by name alone.
_REASONS = {
    **dict.fromkeys(
        (
            "NVMLError_NotSupported",
            "NVMLError_FunctionNotFound",
            "NVMLError_InvalidArgument",
            "NVMLError_NoData",
            "NVMLError_ArgumentVersionMismatch",
            "NVMLLibraryMismatchError",
            "AttributeError",  # pynvml itself is older than the function
            "OSError",
            "ValueError",
        ),
        "not_supported",
    ),
    **dict.fromkeys(("NVMLError_NoPermission", "PermissionError"), "no_permission"),
    **dict.fromkeys(
        (
            "NVMLError_LibraryNotFound",
            "NVMLError_DriverNotLoaded",
            "NVMLError_LibRmVersionMismatch",
            "ImportError",
        ),
        "no_driver",
    ),
    **dict.fromkeys(
        ("NVMLError_NotFound", "NVMLError_GpuIsLost", "NVMLError_GpuNotFound"), "no_device"
    ),
}


class UnreadableError(Exception):
    """A counter cannot be read; the text is the reason in one word."""


class Reader(NamedTuple):
    """Reads some counters at one moment."""

    names: tuple[str, ...]
    read: Callable[[], tuple[Counter, ...]]  #: Each of them, a missing one with its reason.


class Sources(NamedTuple):
    """What is read, and what is to be said beside it in the end."""

    readers: tuple[Reader, ...]
    remarks: Callable[[], tuple[Counter, ...]] = tuple


class PowerCap(NamedTuple):
    """A power limit below what the card left the factory with."""

    limit_w: float
    default_w: float


def name_reason(error: Exception) -> str:
    """Return the reason in one word; the error's own name where it has no better one."""
    if isinstance(error, UnreadableError):
        return str(error)
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((_REASONS[name] for name in names if name in _REASONS), type(error).__name__)


def lack(names: Iterable[str], reason: str) -> tuple[Counter, ...]:
    """Return the counters as missing for the reason."""
    return tuple(Counter(name=name, missing_because=reason) for name in names)


def lacking(names: Iterable[str], reason: str) -> Reader:
    """Return a reader whose counters are all missing for the reason."""
    counters = lack(names, reason)
    return Reader(tuple(counter.name for counter in counters), lambda: counters)


def read_counter(name: str, unit: str, read: Callable[[], float]) -> Counter:
    """Return the counter's value, or why there is none."""
    try:
        return Counter(name=name, value=float(read()), unit=unit)
    except Exception as error:  # noqa: BLE001 - NVMLError's subclasses are made at run time
        return Counter(name=name, missing_because=name_reason(error))


def open_counter(name: str, unit: str, read: Callable[[], float]) -> Reader:
    """Return a reader of one counter."""
    return Reader((name,), lambda: (read_counter(name, unit, read),))


def find_power_cap(counters: Iterable[Counter]) -> PowerCap | None:
    """Return the power cap by an environment's counters; None without one, or where not known."""
    values = {counter.name: counter.value for counter in counters}
    limit_w, default_w = values.get("power_limit"), values.get("power_limit_default")
    if limit_w is None or default_w is None or limit_w >= default_w:
        return None
    return PowerCap(limit_w, default_w)
