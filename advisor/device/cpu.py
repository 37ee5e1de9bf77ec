"""The CPU and its memory, the container's limit included."""

import platform
from pathlib import Path

import psutil

_CPUINFO = Path("/proc/cpuinfo")
_CGROUP_V2 = Path("/sys/fs/cgroup")
_CGROUP_V1 = Path("/sys/fs/cgroup/memory")

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
    return min(available, limit - used + _cgroup_cache_bytes())


def _cgroup_directories() -> list[tuple[Path, bool]]:
    """Return this process's own group and the mount's root; True marks version 2."""
    found = [(_CGROUP_V2, True), (_CGROUP_V1, False)]
    membership = Path("/proc/self/cgroup")
    if membership.is_file():
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found.insert(0, (_CGROUP_V2 / path.lstrip("/"), True))
            elif "memory" in controllers.split(","):
                found.insert(0, (_CGROUP_V1 / path.lstrip("/"), False))
    return found


def _cgroup_bytes(name_v2: str, name_v1: str) -> int | None:
    for directory, is_v2 in _cgroup_directories():
        try:
            text = (directory / (name_v2 if is_v2 else name_v1)).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _NO_LIMIT_BYTES:
            return int(text)
    return None


def _cgroup_cache_bytes() -> int:
    for directory, _ in _cgroup_directories():
        try:
            lines = (directory / "memory.stat").read_text().splitlines()
        except OSError:
            continue
        values = dict(line.split() for line in lines)
        return int(values.get("inactive_file", values.get("total_inactive_file", 0)))
    return 0
