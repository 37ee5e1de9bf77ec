"""The driver's library, of which any function may be missing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from advisor.device.counters import name_reason


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


def read_first(*reads: Callable[[], Any]) -> Any:
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
