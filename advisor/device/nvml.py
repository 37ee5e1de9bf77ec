"""Counters of an NVIDIA GPU, each optional with the reason why it is missing.

A device is found by its UUID: NVML's index is the bus order and may differ from CUDA's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from advisor.measurements import Counter

_REASONS = {
    "NVMLError_NotSupported": "not_supported",
    "NVMLError_FunctionNotFound": "not_supported",
    "NVMLError_NoPermission": "no_permission",
    "NVMLError_LibraryNotFound": "no_driver",
    "NVMLError_DriverNotLoaded": "no_driver",
    "NVMLError_NotFound": "mig",
}


def read_counters(uuid: str | None) -> tuple[Counter, ...]:
    """Return the driver version's counters for the device, or the reason why there are none.

    Args:
        uuid: As NVML writes it, `GPU-…`; None means that there is no NVIDIA device.
    """
    if uuid is None:
        return tuple(Counter(name=name, missing_because="no_device") for name, _, _ in _COUNTERS)
    try:
        with _library() as nvml:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            return tuple(
                _read(name, unit, partial(read, nvml, handle)) for name, unit, read in _COUNTERS
            )
    except Exception as error:  # noqa: BLE001 - NVMLError's subclasses are made at run time
        reason = _reason(error)
        return tuple(Counter(name=name, missing_because=reason) for name, _, _ in _COUNTERS)


def driver_version() -> str | None:
    """Return the driver's version, None where there is no driver."""
    try:
        with _library() as nvml:
            return str(nvml.nvmlSystemGetDriverVersion())
    except Exception:  # noqa: BLE001 - no driver is an answer here
        return None


_Read = Callable[[Any, Any], float]

_COUNTERS: tuple[tuple[str, str, _Read], ...] = (
    ("power", "W", lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
    ("power_limit", "W", lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000),
    ("energy", "J", lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000),
    ("temperature", "°C", lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, 0)),
    ("sm_clock", "MHz", lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, 1)),
    ("memory_used", "B", lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used),
    (
        "throttle_reasons",
        "bits",
        lambda nvml, gpu: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu),
    ),
)


@contextmanager
def _library() -> Iterator[Any]:
    import pynvml  # noqa: PLC0415 - loads the driver's library

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _read(name: str, unit: str, read: Callable[[], float]) -> Counter:
    try:
        return Counter(name=name, value=float(read()), unit=unit)
    except Exception as error:  # noqa: BLE001 - NVMLError's subclasses are made at run time
        return Counter(name=name, missing_because=_reason(error))


def _reason(error: Exception) -> str:
    return _REASONS.get(type(error).__name__, type(error).__name__)
