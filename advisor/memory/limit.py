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
from typing import NamedTuple, Self

import psutil
import torch
from torch import nn
from torch.nn import functional

from advisor.errors import DeviceError
from advisor.training.heap import return_freed_memory

if sys.platform != "win32":
    import resource

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class MemoryGauge:
    """Peaks of one device, in bytes beyond the idle process.

    Args:
        device: Where training runs.
        capacity_bytes: The limit to enforce; None enforces nothing.
    """

    def __init__(self, device: torch.device, capacity_bytes: int | None) -> None:
        self._device = device
        self._mappings: _Mappings | None = None
        self._mapped_before_bytes: int | None = None
        self._swapped_before_bytes = _status_bytes("VmSwap") if _STATUS.exists() else None
        if device.type == "cpu":
            return_freed_memory()
            _warm_up_cpu()
            self._baseline_bytes = _resident_bytes()
            if capacity_bytes is not None and sys.platform == "linux":
                limit = _status_bytes("VmData") + capacity_bytes
                resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
                self._mappings = _Mappings.read()
        elif capacity_bytes is not None:
            _cap_allocator(device, capacity_bytes)

    def reset(self) -> None:
        """Forget the peak so far."""
        if self._mappings is not None and self._mapped_before_bytes is None:
            self._mapped_before_bytes = _Mappings.read().peak_bytes
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        elif self._device.type == "cpu" and _CLEAR_REFS.exists():
            _CLEAR_REFS.write_text("5")  # resets the high-water mark, see proc(5)

    def peak_bytes(self) -> int | None:
        """Return the peak since the last reset, in the currency of the limit; None on MPS."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        if self._device.type == "mps":
            return None
        return max(0, _peak_resident_bytes() - self._baseline_bytes)

    def limit_peak_bytes(self) -> int | None:
        """Return the peak since the first reset of what the limit counts, None where not known.

        The kernel limits what is mapped to be written (VmData), but keeps a high-water mark only of
        all that is mapped. The rest of it (libraries) is taken off as it is now. Where the mark is
        older than the first reset it says nothing.
        """
        if self._mappings is None or self._mapped_before_bytes is None:
            return None
        now = _Mappings.read()
        if now.peak_bytes <= self._mapped_before_bytes:
            return None
        other_bytes = now.other_bytes - self._mappings.other_bytes
        return max(0, now.peak_bytes - self._mappings.mapped_bytes - other_bytes)

    def current_bytes(self) -> int:
        """Return what is taken now."""
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated(self._device)
        if self._device.type == "mps":
            return torch.mps.current_allocated_memory()
        return max(0, _resident_bytes() - self._baseline_bytes)

    def held_bytes(self) -> int:
        """Return what is taken now, in the count that tells a small leak best.

        Resident memory also rises as pages of a mapped data file are read and as memory taken long
        ago is first used; what is mapped to be written does not.
        """
        if self._mappings is None:
            return self.current_bytes()
        now = _Mappings.read()
        taken_bytes = now.mapped_bytes - now.other_bytes
        return taken_bytes - (self._mappings.mapped_bytes - self._mappings.other_bytes)

    def swapped_bytes(self) -> int | None:
        """Return by how much more of the process is swapped out than before, None if unknown."""
        if self._device.type != "cpu" or self._swapped_before_bytes is None:
            return None
        return max(0, _status_bytes("VmSwap") - self._swapped_before_bytes)


class _Mappings(NamedTuple):
    """What the kernel says is mapped: now, at most so far, and all of it but data."""

    mapped_bytes: int
    peak_bytes: int
    other_bytes: int

    @classmethod
    def read(cls) -> Self:
        mapped = _status_bytes("VmSize")
        return cls(mapped, _status_bytes("VmPeak"), mapped - _status_bytes("VmData"))


def _cap_allocator(device: torch.device, capacity_bytes: int) -> None:
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, capacity_bytes / total), device)
    else:
        total = torch.mps.recommended_max_memory()
        torch.mps.set_per_process_memory_fraction(min(1.0, capacity_bytes / total))


def _warm_up_cpu() -> None:
    """Start the thread pools and load the kernels that training would start."""
    layer = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 14 * 14, 16))
    loss = functional.cross_entropy(layer(torch.ones(8, 3, 16, 16)), torch.zeros(8).long())
    torch.autograd.backward(loss)
    torch.optim.AdamW(layer.parameters()).step()
    torch.ones(256, 256) @ torch.ones(256, 256)


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def _peak_resident_bytes() -> int:
    if _STATUS.exists():
        return _status_bytes("VmHWM")
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _status_bytes(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise DeviceError(f"{_STATUS} has no {name}: the CPU limit cannot be enforced here")
