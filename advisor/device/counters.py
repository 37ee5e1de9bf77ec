"""A counter of the machine is a function that returns its value or raises why it has none."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from advisor.device.data import Counter

Read = Callable[[], float]

#: Errors by the reason that they are, by name: NVML's own are made at run time.
_REASONS = {
    "not_supported": {
        *("NVMLError_NotSupported", "NVMLError_FunctionNotFound", "NVMLError_InvalidArgument"),
        *("NVMLError_NoData", "NVMLError_ArgumentVersionMismatch", "NVMLLibraryMismatchError"),
        *("AttributeError", "OSError", "ValueError"),  # the first: pynvml is older than a function
    },
    "no_permission": {"NVMLError_NoPermission", "PermissionError"},
    "no_driver": {
        *("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded", "ImportError"),
        "NVMLError_LibRmVersionMismatch",
    },
    "no_device": {"NVMLError_NotFound", "NVMLError_GpuIsLost", "NVMLError_GpuNotFound"},
}


class UnreadableError(Exception):
    """A counter cannot be read; the text is the reason in one word."""


class Sources(NamedTuple):
    """What is read, by name, and what is to be said beside it in the end."""

    reads: dict[str, Read]
    remarks: Callable[[], tuple[Counter, ...]] = tuple


class PowerCap(NamedTuple):
    """A power limit below what the card left the factory with."""

    limit_w: float
    default_w: float


def name_reason(error: Exception) -> str:
    """Return the reason in one word; the error's own name where it has no better one."""
    if isinstance(error, UnreadableError):
        return str(error)
    for kind in type(error).__mro__:
        for reason, names in _REASONS.items():
            if kind.__name__ in names:
                return reason
    return type(error).__name__


def refuse(names: Iterable[str], reason: str) -> dict[str, Read]:
    """Return counters that are missing for the reason."""

    def read() -> float:
        raise UnreadableError(reason)

    return dict.fromkeys(names, read)


def read_counter(name: str, read: Read, unit: str | None = None) -> Counter:
    """Return the counter's value, or why there is none."""
    try:
        return Counter(name=name, value=float(read()), unit=unit)
    except Exception as error:  # noqa: BLE001 - NVMLError's subclasses are made at run time
        return Counter(name=name, missing_because=name_reason(error))


def find_power_cap(counters: Iterable[Counter]) -> PowerCap | None:
    """Return the power cap by an environment's counters; None without one, or where not known."""
    values = {counter.name: counter.value for counter in counters}
    limit_w, default_w = values.get("power_limit"), values.get("power_limit_default")
    if limit_w is None or default_w is None or limit_w >= default_w:
        return None
    return PowerCap(limit_w, default_w)
