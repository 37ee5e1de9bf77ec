"""What torch says of an allocation that failed on a GPU, as figures."""

import re
from typing import NamedTuple

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_AMOUNT = r"(?P<{}>[\d.]+) (?P<{}_unit>bytes|KiB|MiB|GiB|TiB)"
_FAILED_ALLOCATION = re.compile(
    r"Tried to allocate "
    + _AMOUNT.format("tried", "tried")
    + r".*? of which "
    + _AMOUNT.format("free", "free")
    + r" is free"
    + r"(?:.*?"
    + _AMOUNT.format("allowed", "allowed")
    + r" allowed)?"
    + r".*?"
    + _AMOUNT.format("allocated", "allocated")
    + r" is allocated by PyTorch"
    + r".*?"
    + _AMOUNT.format("unallocated", "unallocated")
    + r" is reserved by PyTorch but"
)


class FailedAllocation(NamedTuple):
    """What torch's CUDA allocator says of the allocation that failed, in bytes.

    Attributes:
        tried: Asked for.
        free: Free on the device at that moment.
        allocated: Taken by tensors of this process.
        unallocated: Held by the allocator of this process and in no tensor.
        allowed: The cap in force; None where the message names none.
    """

    tried: int
    free: int
    allocated: int
    unallocated: int
    allowed: int | None


def parse_failed_allocation(message: str) -> FailedAllocation | None:
    """Return the figures of a CUDA out-of-memory message, None where it has not all of them.

    Source: the format of torch's CUDACachingAllocator, 2.0 to 2.13.
    """
    match = _FAILED_ALLOCATION.search(message)
    if match is None:
        return None

    def read(name: str) -> int:
        return int(float(match[name]) * _UNITS[match[f"{name}_unit"]])

    return FailedAllocation(
        tried=read("tried"),
        free=read("free"),
        allocated=read("allocated"),
        unallocated=read("unallocated"),
        allowed=None if match["allowed"] is None else read("allowed"),
    )


def render_bytes(value: float) -> str:
    """Return a size with three significant digits, in MiB below one GiB."""
    unit, factor = ("GiB", 2**30) if value >= 2**30 else ("MiB", 2**20)
    amount = float(f"{value / factor:.3g}")
    return f"{amount:.0f} {unit}" if amount >= 100 else f"{amount:g} {unit}"
