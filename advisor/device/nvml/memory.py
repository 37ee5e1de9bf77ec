"""Memory of the device that other processes hold."""

from typing import Any

from advisor.device.data import Counter
from advisor.device.nvml.library import read_first
from advisor.device.processes import list_tree


def read_used_bytes(nvml: Any, handle: Any) -> int:
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
        self._was_listed |= own_bytes is not None
        if not self._was_listed:
            return min(used_bytes, self._first_bytes)
        return max(0, used_bytes - (own_bytes or 0))

    def remark(self) -> tuple[Counter, ...]:
        """Return that our own processes were never listed, if so."""
        remark = Counter(name="own_memory", missing_because="pids_not_listed")
        return () if self._was_listed else (remark,)

    def _read_own_bytes(self) -> int | None:
        """Return what our processes hold; None where none of them is listed with a figure."""
        try:
            listed = read_first(
                lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle),
                lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses_v2(self._handle),
            )
        except Exception:  # noqa: BLE001 - without a list the first reading serves
            return None
        own = list_tree(self._own_pids)
        held = [each.usedGpuMemory for each in listed if each.pid in own]
        known = [size for size in held if size is not None]
        return sum(known) if known else None
