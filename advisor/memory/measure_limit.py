"""A limit on the memory of training that is enforced for real, and the peaks under it.

On CUDA and MPS torch's own allocator is capped. On Linux the CPU's heap is made regular (each
larger block is a mapping of its own, returned at once) and `RLIMIT_DATA` caps what comes on top of
the idle process; peaks are the kernel's high-water mark of resident memory, reset between phases.
Elsewhere a CPU limit cannot be enforced: the peak is then compared with it afterwards. MPS has no
peak counter, and what is taken after a pass is not its peak; whether a size fits is known all the
same, since the allocator fails.
"""

import sys
from pathlib import Path

import psutil
import torch
from torch import nn
from torch.nn import functional

from advisor.device.allocator_settings import has_expandable_segments
from advisor.device.cpu import available_memory_bytes
from advisor.errors import DeviceError
from advisor.predict.allocator import LARGE_SEGMENT_BYTES
from advisor.training.heap import return_freed_memory

if sys.platform != "win32":
    import resource

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class MemoryGauge:
    """Enforces a limit on a device, None for none, and counts bytes beyond the idle process.

    `available_bytes` were free on the device before; None where that is not known.
    """

    def __init__(self, device: torch.device, capacity_bytes: int | None) -> None:
        self.device, self._capacity_bytes = device, capacity_bytes
        self._idle: dict[str, int] | None = None  # where the limit is the kernel's
        self._mapped_before_bytes: int | None = None
        self._swapped_before_bytes = _read_status().get("VmSwap")
        self.available_bytes = available_memory_bytes() if device.type == "cpu" else None
        if device.type == "cuda":
            self.available_bytes = int(torch.cuda.mem_get_info(device)[0])
        if device.type == "cpu":
            return_freed_memory()
            _warm_up_cpu()
            self._baseline_bytes = int(psutil.Process().memory_info().rss)
            if capacity_bytes is not None and sys.platform == "linux":
                self._idle = _read_status()
                if not {"VmSize", "VmPeak", "VmData"} <= self._idle.keys():
                    raise DeviceError(f"{_STATUS} lacks figures: no CPU limit can be enforced here")
                limit = self._idle["VmData"] + capacity_bytes
                resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        elif capacity_bytes is not None and device.type == "cuda":
            total = torch.cuda.get_device_properties(device).total_memory
            allowed = torch.cuda.get_per_process_memory_fraction(device)  # a user's own cap stands
            if has_expandable_segments():  # which pages come and go is another in each loop
                capacity_bytes = max(1, capacity_bytes - LARGE_SEGMENT_BYTES)
            fraction = min(allowed, capacity_bytes / total)
            torch.cuda.set_per_process_memory_fraction(fraction, device)
        elif capacity_bytes is not None:
            fraction = min(1.0, capacity_bytes / torch.mps.recommended_max_memory())
            torch.mps.set_per_process_memory_fraction(fraction)

    def reset(self) -> None:
        """Forget the peak so far."""
        if self._idle is not None and self._mapped_before_bytes is None:
            self._mapped_before_bytes = _read_status()["VmPeak"]
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif self.device.type == "cpu" and _CLEAR_REFS.exists():
            _CLEAR_REFS.write_text("5")  # resets the high-water mark, see proc(5)

    def peak_bytes(self) -> int | None:
        """Return the peak since the last reset; None on MPS."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if self.device.type == "mps":
            return None
        return max(0, _read_peak_resident_bytes() - self._baseline_bytes)

    def limit_peak_bytes(self) -> int | None:
        """Return the peak since the first reset of what the limit counts, None where not known.

        The kernel limits what is mapped to be written (VmData), but keeps a mark only of all that
        is mapped: libraries are taken off as they are now. One older than the reset says nothing.
        """
        if self._idle is None or self._mapped_before_bytes is None:
            return None
        now, idle = _read_status(), self._idle
        if now["VmPeak"] <= self._mapped_before_bytes:
            return None
        libraries = (now["VmSize"] - now["VmData"]) - (idle["VmSize"] - idle["VmData"])
        return max(0, now["VmPeak"] - idle["VmSize"] - libraries)

    def is_over(self, *peaks: int | None) -> bool:
        """Return whether a peak is above the limit, which not every device enforces."""
        counted = self.limit_peak_bytes()
        if counted is None:
            counted = max(filter(None, peaks), default=0)
        return self._capacity_bytes is not None and counted > self._capacity_bytes

    def held_bytes(self) -> int:
        """Return what is taken now, on the CPU what is mapped to be written: it tells a leak best.

        Resident memory also rises as pages of a data file are read and old ones are first used.
        """
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        if self.device.type == "mps":
            return torch.mps.current_allocated_memory()
        if self._idle is not None:
            return _read_status()["VmData"] - self._idle["VmData"]
        return max(0, int(psutil.Process().memory_info().rss) - self._baseline_bytes)

    def swapped_bytes(self) -> int | None:
        """Return by how much more of the process is swapped out than before, None if unknown."""
        if self.device.type != "cpu" or self._swapped_before_bytes is None:
            return None
        return max(0, _read_status()["VmSwap"] - self._swapped_before_bytes)


def _warm_up_cpu() -> None:
    """Start the thread pools and load the kernels that training would start."""
    layer = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 14 * 14, 16))
    loss = functional.cross_entropy(layer(torch.ones(8, 3, 16, 16)), torch.zeros(8).long())
    torch.autograd.backward(loss)
    torch.optim.AdamW(layer.parameters()).step()
    torch.ones(256, 256) @ torch.ones(256, 256)


def _read_peak_resident_bytes() -> int:
    if _STATUS.exists():
        return _read_status()["VmHWM"]
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _read_status() -> dict[str, int]:
    """Return the kernel's figures of this process in bytes; none but on Linux."""
    if not _STATUS.exists():
        return {}
    fields = (line.split() for line in _STATUS.read_text().splitlines() if line.endswith(" kB"))
    return {name.rstrip(":"): 1024 * int(amount) for name, amount, _ in fields}
