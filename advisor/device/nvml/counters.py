"""The counters of one GPU, once for a report and again and again for the telemetry."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

from advisor.device.counters import Reader, Sources, lack, lacking, name_reason, open_counter
from advisor.device.data import Counter
from advisor.device.nvml.cards import hash_uuid
from advisor.device.nvml.library import opened_library, read_first
from advisor.device.nvml.memory import ForeignMemory, read_used_bytes
from advisor.device.nvml.slowdown import SLOWDOWN_COUNTERS, open_slowdowns
from advisor.device.nvml.visible import Found, find_gpu

_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_SENSOR_GPU = 0


def _read_temperature(nvml: Any, gpu: Any) -> float:
    return float(
        read_first(  # the newer function replaces the older in drivers to come
            lambda: nvml.nvmlDeviceGetTemperatureV(gpu, _SENSOR_GPU),
            lambda: nvml.nvmlDeviceGetTemperature(gpu, _SENSOR_GPU),
        )
    )


#: Counters that one call gives: unit, and the call on pynvml and a handle.
_FIGURES: dict[str, tuple[str, Callable[[Any, Any], float]]] = {
    "energy": ("J", lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000),
    "power": ("W", lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
    "power_limit": ("W", lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000),
    "power_limit_default": (
        "W",
        lambda nvml, gpu: nvml.nvmlDeviceGetPowerManagementDefaultLimit(gpu) / 1000,
    ),
    "temperature": ("°C", _read_temperature),
    "sm_clock": ("MHz", lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, _CLOCK_SM)),
    "memory_clock": ("MHz", lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, _CLOCK_MEMORY)),
}
#: Names of the counters that a report shows.
_REPORTED = (*_FIGURES, "memory_used", *SLOWDOWN_COUNTERS)
_SAMPLED_FIGURES = ("energy", "power", "sm_clock", "temperature")
#: Names of those that are sampled.
GPU_COUNTERS = (*_SAMPLED_FIGURES, "foreign_memory", *SLOWDOWN_COUNTERS)


def missing_gpu_reason(kind: Literal["cpu", "cuda", "mps"]) -> str:
    """Return why a device that is not NVIDIA's has none of these counters."""
    return "no_device" if kind == "cpu" else "not_nvidia"


def read_counters(uuid: str | None, *, reason: str = "no_device") -> tuple[Counter, ...]:
    """Return the counters of the device, each missing one with the reason.

    Args:
        uuid: As NVML or torch writes it; None means that there is no NVIDIA device.
        reason: Why there is none.
    """
    if uuid is None:
        return lack(_REPORTED, reason)
    try:
        with opened_library() as nvml:
            gpu = find_gpu(nvml, hash_uuid(uuid))
            readers = [*_open_figures(nvml, gpu, tuple(_FIGURES))]
            readers.append(_open_memory(gpu, "memory_used", partial(read_used_bytes, nvml)))
            readers.append(_open_slowdowns(nvml, gpu))
            return tuple(counter for reader in readers for counter in reader.read())
    except Exception as error:  # noqa: BLE001 - NVMLError's subclasses are made at run time
        return lack(_REPORTED, name_reason(error))


@contextmanager
def opened_gpu(uuid_hash: str | None, index: int, own_pids: tuple[int, ...]) -> Iterator[Sources]:
    """Open the device for sampling, and yield its readers; without a driver they say so.

    Args:
        uuid_hash: Of the device, as a record keeps it.
        index: CUDA's, which serves only where there is no UUID.
        own_pids: Processes whose memory, with that of all they start, is not of others.
    """
    with ExitStack() as stack:
        try:
            nvml = stack.enter_context(opened_library())
            gpu = find_gpu(nvml, uuid_hash, index)
            memory = ForeignMemory(nvml, gpu.handle, own_pids)
            readers = [*_open_figures(nvml, gpu, _SAMPLED_FIGURES)]
            readers.append(_open_memory(gpu, "foreign_memory", lambda _: memory.read_bytes()))
            readers.append(_open_slowdowns(nvml, gpu))
            opened = Sources(tuple(readers), tuple if gpu.handle is None else memory.remark)
        except Exception as error:  # noqa: BLE001 - NVMLError's subclasses are made at run time
            opened = Sources((lacking(GPU_COUNTERS, name_reason(error)),))
        yield opened


def _open_figures(nvml: Any, gpu: Found, names: tuple[str, ...]) -> Iterator[Reader]:
    if gpu.is_mig:
        yield lacking(names, "mig")
        return
    for name in names:
        unit, read = _FIGURES[name]
        yield open_counter(name, unit, partial(read, nvml, gpu.handle))


def _open_memory(gpu: Found, name: str, read: Callable[[Any], int]) -> Reader:
    known = gpu.handle is not None
    return open_counter(name, "B", partial(read, gpu.handle)) if known else lacking((name,), "mig")


def _open_slowdowns(nvml: Any, gpu: Found) -> Reader:
    if gpu.is_mig:
        return lacking(SLOWDOWN_COUNTERS, "mig")
    return Reader(SLOWDOWN_COUNTERS, open_slowdowns(nvml, gpu.handle))
