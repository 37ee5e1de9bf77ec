"""How the C heap of a worker handles freed memory (glibc only; elsewhere nothing changes).

The default heap learns its thresholds from what is freed, so the memory and the time of a step
depend on earlier ones. Where steps are timed it stays: a user's own loop runs on it.
"""

import ctypes
import sys

import torch

from advisor.errors import DeviceError

# glibc's malloc.h: parameters of mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
#: Blocks of this size and above are mapped one by one: small enough to cover every activation worth
#: counting, large enough that the number of mappings stays below the kernel's limit of 65530.
_MMAP_THRESHOLD_BYTES = 65536


def return_freed_memory() -> None:
    """Map each larger block apart and return it at once, so that peaks are exact, or raise."""
    settings = {_M_MMAP_THRESHOLD: _MMAP_THRESHOLD_BYTES, _M_ARENA_MAX: 1, _M_TRIM_THRESHOLD: 0}
    if not _apply(settings):
        raise DeviceError("mallopt was refused: the CPU limit cannot be trusted")


def keep_freed_memory(device: torch.device) -> None:
    """Keep freed blocks in the heap: steps that nobody times run faster without page faults.

    Not where training is on a GPU: the heap would keep each model that goes there, and grow.
    """
    if device.type == "cpu":
        _apply({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1})  # where refused, it is merely slower


def _apply(settings: dict[int, int]) -> bool:
    """Return whether the C library took every setting, or has no such call and no need of it."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "mallopt"):  # as musl
        return True
    return all(library.mallopt(parameter, value) for parameter, value in settings.items())
