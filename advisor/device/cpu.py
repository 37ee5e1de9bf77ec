"""The CPU and its memory, the container's limit included."""

import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_CPUINFO = Path("/proc/cpuinfo")
_CGROUP_V2 = Path("/sys/fs/cgroup")
_CGROUP_V1 = Path("/sys/fs/cgroup/memory")
_MEMBERSHIP = Path("/proc/self/cgroup")

#: Limits above this are version 1's way to say "none" (a page-rounded 2**63).
_NO_LIMIT_BYTES = 1 << 60


def cpu_name() -> str:
    """Return the processor's marketing name."""
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def total_memory_bytes() -> int:
    """Return the machine's memory or the container's limit, whichever is smaller."""
    limit = _cgroup_bytes("memory.max", "memory.limit_in_bytes")
    return min(int(psutil.virtual_memory().total), limit or _NO_LIMIT_BYTES)


def available_memory_bytes() -> int:
    """Return what a new process could take without swapping or meeting the container's limit."""
    available = int(psutil.virtual_memory().available)
    limit = _cgroup_bytes("memory.max", "memory.limit_in_bytes")
    used = _cgroup_bytes("memory.current", "memory.usage_in_bytes")
    if limit is None or used is None:
        return available
    # The page cache counts as used by the group but is given up under pressure.
    stat = next(_cgroup_texts("memory.stat", "memory.stat"), "")
    values = dict(line.split() for line in stat.splitlines())
    cache = int(values.get("inactive_file", values.get("total_inactive_file", 0)))
    return min(available, limit - used + cache)


def _cgroup_bytes(name_v2: str, name_v1: str) -> int | None:
    """Return the first number that is a limit at all; None where there is none."""
    numbers = (int(text) for text in _cgroup_texts(name_v2, name_v1) if text.isdigit())
    return next((number for number in numbers if number < _NO_LIMIT_BYTES), None)


def _cgroup_texts(name_v2: str, name_v1: str) -> Iterator[str]:
    """Yield what the file of version 2 or 1 holds in this process's group, then at the root."""
    paths = [_CGROUP_V2 / name_v2, _CGROUP_V1 / name_v1]
    if _MEMBERSHIP.is_file():
        for line in _MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                paths.insert(0, _CGROUP_V2 / path.lstrip("/") / name_v2)
            elif "memory" in controllers.split(","):
                paths.insert(0, _CGROUP_V1 / path.lstrip("/") / name_v1)
    for file in paths:
        with suppress(OSError):
            yield file.read_text().strip()
