"""The counters of one GPU, once for a report and again and again for the telemetry."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, Literal

from advisor.device.counters import Read, Sources, name_reason, read_counter, refuse
from advisor.device.data import Counter
from advisor.device.nvml.cards import find_device, hash_uuid, opened_library, read_first
from advisor.device.nvml.slowdown import SLOWDOWN_COUNTERS, open_slowdowns
from advisor.device.processor import list_tree


def _read_used_bytes(nvml: Any, handle: Any) -> int:
    """Return the memory in use, without what the driver keeps for itself where it tells that."""
    memory = read_first(
        lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2),
        lambda: nvml.nvmlDeviceGetMemoryInfo(handle),
    )
    return int(memory.used)


class ForeignMemory:
    """The memory in use less that of our own processes.

    In a container the driver may list processes by the numbers that the host gives them, so that
    ours are never found. Then the memory of others is what was in use at the first reading, which
    must come before our worker touches the device, or what is in use now if that is less; what
    others take or leave meanwhile is not seen. `remark` says so.
    """

    def __init__(self, nvml: Any, handle: Any, own_pids: tuple[int, ...]) -> None:
        self._nvml, self._handle, self._own_pids = nvml, handle, own_pids
        self._first_bytes: int | None = None
        self._was_listed = False

    def read_bytes(self) -> int:
        """Return the memory of others."""
        used_bytes, own = _read_used_bytes(self._nvml, self._handle), self._list_own()
        self._was_listed |= bool(own)
        if self._first_bytes is None:
            self._first_bytes = used_bytes - sum(own)
        if not self._was_listed:
            return min(used_bytes, self._first_bytes)
        return max(0, used_bytes - sum(own))

    def remark(self) -> tuple[Counter, ...]:
        """Return that our own processes were never listed, if so."""
        remark = Counter(name="own_memory", missing_because="pids_not_listed")
        return () if self._was_listed else (remark,)

    def _list_own(self) -> list[int]:
        """Return what each of our processes holds that is listed with a figure."""
        with suppress(Exception):  # without a list the first reading serves
            listed = read_first(
                lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle),
                lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses_v2(self._handle),
            )
            own = list_tree(self._own_pids)
            held = [each.usedGpuMemory for each in listed if each.pid in own]
            return [size for size in held if size is not None]
        return []


_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_SENSOR_GPU = 0


#: Counters that one call on pynvml and a handle gives, with their units.
_FIGURES: dict[str, tuple[str, Callable[[Any, Any], float]]] = {
    "energy": ("J", lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000),
    "power": ("W", lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
    "power_limit": ("W", lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000),
    "power_limit_default": (
        "W",
        lambda nvml, gpu: nvml.nvmlDeviceGetPowerManagementDefaultLimit(gpu) / 1000,
    ),
    "temperature": (
        "°C",
        lambda nvml, gpu: read_first(  # the newer function replaces the older in drivers to come
            lambda: nvml.nvmlDeviceGetTemperatureV(gpu, _SENSOR_GPU),
            lambda: nvml.nvmlDeviceGetTemperature(gpu, _SENSOR_GPU),
        ),
    ),
    "sm_clock": ("MHz", lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, _CLOCK_SM)),
    "memory_clock": ("MHz", lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, _CLOCK_MEMORY)),
}
#: Units of the counters that a report shows.
_REPORTED = {
    **{name: unit for name, (unit, _) in _FIGURES.items()},
    "memory_used": "B",
    **dict.fromkeys(SLOWDOWN_COUNTERS, "s"),
}
#: Names of those that are sampled.
GPU_COUNTERS = ("energy", "power", "sm_clock", "temperature", "foreign_memory", *SLOWDOWN_COUNTERS)


def missing_gpu_reason(kind: Literal["cpu", "cuda", "mps"]) -> str:
    """Return why a device that is not NVIDIA's has none of these counters."""
    return "no_device" if kind == "cpu" else "not_nvidia"


def read_counters(uuid: str | None, *, reason: str = "no_device") -> tuple[Counter, ...]:
    """Return the counters of the device, each missing one with the reason.

    The UUID is as NVML or torch writes it; None: no NVIDIA device is there, for the reason.
    """
    with nullcontext() if uuid is None else opened_gpu(hash_uuid(uuid)) as gpu:
        reads = refuse(_REPORTED, reason) if gpu is None else gpu.reads
        return tuple(read_counter(name, reads[name], unit) for name, unit in _REPORTED.items())


@contextmanager
def opened_gpu(uuid_hash: str | None, own_pids: tuple[int, ...] = ()) -> Iterator[Sources]:
    """Open the device, and yield all its counters; without a driver they say so.

    The memory of `own_pids`, with that of all they start, is not of others.
    """
    with ExitStack() as stack:
        try:
            nvml = stack.enter_context(opened_library())
            opened = _open_counters(nvml, uuid_hash, own_pids)
        except Exception as error:  # noqa: BLE001 - NVMLError's subclasses are made at run time
            opened = Sources(refuse({*_REPORTED, *GPU_COUNTERS}, name_reason(error)))
        yield opened


def _open_counters(nvml: Any, uuid_hash: str | None, own_pids: tuple[int, ...]) -> Sources:
    gpu, is_mig = find_device(nvml, uuid_hash)
    reads: dict[str, Read] = refuse({*_REPORTED, *GPU_COUNTERS}, "mig")
    if not is_mig:
        reads |= {name: partial(read, nvml, gpu) for name, (_, read) in _FIGURES.items()}
        reads |= open_slowdowns(nvml, gpu)
    if gpu is None:
        return Sources(reads)
    memory = ForeignMemory(nvml, gpu, own_pids)
    reads["memory_used"] = partial(_read_used_bytes, nvml, gpu)
    reads["foreign_memory"] = memory.read_bytes
    return Sources(reads, memory.remark)
