"""Memory of the device that other processes hold."""

from collections.abc import Callable
from typing import Any

from advisor.device.data import Counter
from advisor.device.nvml.library import read_counter, read_first
from advisor.device.processes import list_tree


def read_used_bytes(nvml: Any, handle: Any) -> int:
    """Return the memory in use, without what the driver keeps for itself where it tells that."""
    return int(
        read_first(
            lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2).used,
            lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
        )
    )


class ForeignMemory:
    """The memory in use less that of our own processes.

    In a container the driver may list processes by the numbers that the host gives them, so that
    ours are never found. Then the memory of others is what was in use at the first reading, which
    must come before our worker touches the device, or what is in use now if that is less; what
    others take or leave meanwhile is not seen. `remark` says so.

    Args:
        nvml: pynvml, opened.
        handle: Of the card or the MIG instance.
        own_pids: Processes that are our own with all that they start.
    """

    def __init__(self, nvml: Any, handle: Any, own_pids: tuple[int, ...]) -> None:
        self._nvml = nvml
        self._handle = handle
        self._own_pids = own_pids
        self._first_bytes: int | None = None
        self._was_listed = False

    def read_bytes(self) -> int:
        """Return the memory of others."""
        used_bytes = read_used_bytes(self._nvml, self._handle)
        own_bytes = self._read_own_bytes()
        if self._first_bytes is None:
            self._first_bytes = used_bytes - (own_bytes or 0)
        if own_bytes is not None:
            self._was_listed = True
        if not self._was_listed:
            return min(used_bytes, self._first_bytes)
        return max(0, used_bytes - (own_bytes or 0))

    def remark(self) -> tuple[Counter, ...]:
        """Return that our own processes were never listed, if so."""
        if self._was_listed:
            return ()
        return (Counter(name="own_memory", missing_because="pids_not_listed"),)

    def _read_own_bytes(self) -> int | None:
        """Return what our processes hold; None where none of them is listed with a figure."""
        try:
            listed = _running_processes(self._nvml)(self._handle)
        except Exception:  # noqa: BLE001 - without a list the first reading serves
            return None
        own = list_tree(self._own_pids)
        held = [
            process.usedGpuMemory
            for process in listed
            if process.pid in own and process.usedGpuMemory is not None
        ]
        return sum(held) if held else None


def _running_processes(nvml: Any) -> Callable[[Any], Any]:
    """Return the function that lists processes, the older one where the driver has only that."""

    def read(handle: Any) -> Any:
        try:
            return nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except (nvml.NVMLError_FunctionNotFound, nvml.NVMLLibraryMismatchError):
            return nvml.nvmlDeviceGetComputeRunningProcesses_v2(handle)

    return read


def read_foreign_memory(memory: ForeignMemory) -> Counter:
    """Return the memory of others in bytes."""
    return read_counter("foreign_memory", "B", memory.read_bytes)
