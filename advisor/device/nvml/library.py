"""The driver's library, and what its errors mean."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from advisor.device.data import Counter

_REASONS = {
    "NVMLError_NotSupported": "not_supported",
    "NVMLError_FunctionNotFound": "not_supported",
    "NVMLError_InvalidArgument": "not_supported",
    "NVMLError_NoData": "not_supported",
    "NVMLError_ArgumentVersionMismatch": "not_supported",
    "NVMLLibraryMismatchError": "not_supported",
    "AttributeError": "not_supported",  # pynvml itself is older than the function
    "NVMLError_NoPermission": "no_permission",
    "NVMLError_LibraryNotFound": "no_driver",
    "NVMLError_DriverNotLoaded": "no_driver",
    "NVMLError_LibRmVersionMismatch": "no_driver",
    "ImportError": "no_driver",
    "ModuleNotFoundError": "no_driver",
    "NVMLError_NotFound": "no_device",
    "NVMLError_GpuIsLost": "no_device",
    "NVMLError_GpuNotFound": "no_device",
}


class UnreadableError(Exception):
    """A counter cannot be read, for a reason that NVML does not name itself."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@contextmanager
def opened_library() -> Iterator[Any]:
    """Open NVML and yield pynvml."""
    import pynvml  # noqa: PLC0415 - loads the driver's library

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def driver_version() -> str | None:
    """Return the driver's version, None where there is no driver."""
    try:
        with opened_library() as nvml:
            return str(nvml.nvmlSystemGetDriverVersion())
    except Exception:  # noqa: BLE001 - no driver is an answer here
        return None


def read_counter(name: str, unit: str, read: Callable[[], float]) -> Counter:
    """Return the counter's value, or why there is none."""
    try:
        return Counter(name=name, value=float(read()), unit=unit)
    except Exception as error:  # noqa: BLE001 - NVMLError's subclasses are made at run time
        return Counter(name=name, missing_because=name_reason(error))


def read_first(*reads: Callable[[], float]) -> float:
    """Return what the first of several ways yields that works; the last one's error if none does.

    Functions come and go with the driver and with pynvml.
    """
    for read in reads[:-1]:
        try:
            return read()
        except Exception as error:
            if name_reason(error) != "not_supported":
                raise
    return reads[-1]()


def name_reason(error: Exception) -> str:
    """Return the reason in one word; the error's own name where it has no better one."""
    if isinstance(error, UnreadableError):
        return error.reason
    name = type(error).__name__
    return _REASONS.get(name, name)
