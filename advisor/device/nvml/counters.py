"""The counters of one GPU, once for a report and again and again for the telemetry."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple

from advisor.device.data import Counter
from advisor.device.nvml.cards import hash_uuid
from advisor.device.nvml.finding import Found, find_gpu
from advisor.device.nvml.library import name_reason, opened_library, read_counter, read_first
from advisor.device.nvml.memory import ForeignMemory, read_foreign_memory, read_used_bytes
from advisor.device.nvml.slowdown import SLOWDOWN_COUNTERS, open_slowdowns
from advisor.device.reading import Reader, lack, lacking

_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_SENSOR_GPU = 0


class _Figure(NamedTuple):
    """A counter that one call gives."""

    unit: str
    read: Callable[[Any, Any], float]


_FIGURES = {
    "energy": _Figure("J", lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000),
    "power": _Figure("W", lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
    "power_limit": _Figure("W", lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000),
    "power_limit_default": _Figure(
        "W", lambda nvml, gpu: nvml.nvmlDeviceGetPowerManagementDefaultLimit(gpu) / 1000
    ),
    "temperature": _Figure(
        "°C",
        lambda nvml, gpu: read_first(  # the newer function replaces the older in drivers to come
            lambda: nvml.nvmlDeviceGetTemperatureV(gpu, _SENSOR_GPU),
            lambda: nvml.nvmlDeviceGetTemperature(gpu, _SENSOR_GPU),
        ),
    ),
    "sm_clock": _Figure("MHz", lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, _CLOCK_SM)),
    "memory_clock": _Figure(
        "MHz", lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, _CLOCK_MEMORY)
    ),
}
#: Names of the counters that a report shows.
_REPORTED = (*_FIGURES, "memory_used", *SLOWDOWN_COUNTERS)
_SAMPLED_FIGURES = ("energy", "power", "sm_clock", "temperature")
#: Names of those that are sampled.
GPU_COUNTERS = (*_SAMPLED_FIGURES, "foreign_memory", *SLOWDOWN_COUNTERS)


class OpenedGpu(NamedTuple):
    """What can be sampled.

    Attributes:
        readers: Together they have all names of `GPU_COUNTERS`.
        remarks: What is to be said beside the counters in the end.
    """

    readers: tuple[Reader, ...]
    remarks: Callable[[], tuple[Counter, ...]]


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
            readers = [*_figure_readers(nvml, gpu, tuple(_FIGURES)), *_memory_used(nvml, gpu)]
            readers.append(_slowdowns(nvml, gpu))
            return tuple(counter for reader in readers for counter in reader.read())
    except Exception as error:  # noqa: BLE001 - NVMLError's subclasses are made at run time
        return lack(_REPORTED, name_reason(error))


@contextmanager
def opened_gpu(uuid_hash: str | None, index: int, own_pids: tuple[int, ...]) -> Iterator[OpenedGpu]:
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
            opened = _open(nvml, gpu, own_pids)
        except Exception as error:  # noqa: BLE001 - NVMLError's subclasses are made at run time
            opened = OpenedGpu((lacking(GPU_COUNTERS, name_reason(error)),), lambda: ())
        yield opened


def _open(nvml: Any, gpu: Found, own_pids: tuple[int, ...]) -> OpenedGpu:
    figures = _figure_readers(nvml, gpu, _SAMPLED_FIGURES)
    slowdowns = _slowdowns(nvml, gpu)
    if gpu.handle is None:
        return OpenedGpu((*figures, lacking(("foreign_memory",), "mig"), slowdowns), lambda: ())
    memory = ForeignMemory(nvml, gpu.handle, own_pids)
    reader = Reader(("foreign_memory",), lambda: (read_foreign_memory(memory),))
    return OpenedGpu((*figures, reader, slowdowns), memory.remark)


def _figure_readers(nvml: Any, gpu: Found, names: tuple[str, ...]) -> tuple[Reader, ...]:
    if gpu.is_mig:
        return (lacking(names, "mig"),)
    return tuple(_figure_reader(nvml, gpu.handle, name) for name in names)


def _figure_reader(nvml: Any, handle: Any, name: str) -> Reader:
    figure = _FIGURES[name]
    read = partial(figure.read, nvml, handle)
    return Reader((name,), lambda: (read_counter(name, figure.unit, read),))


def _memory_used(nvml: Any, gpu: Found) -> tuple[Reader, ...]:
    if gpu.handle is None:
        return (lacking(("memory_used",), "mig"),)
    read = partial(read_used_bytes, nvml, gpu.handle)
    return (Reader(("memory_used",), lambda: (read_counter("memory_used", "B", read),)),)


def _slowdowns(nvml: Any, gpu: Found) -> Reader:
    if gpu.is_mig:
        return lacking(SLOWDOWN_COUNTERS, "mig")
    return Reader(SLOWDOWN_COUNTERS, open_slowdowns(nvml, gpu.handle))
