"""The processes below one: those whose work and memory are our own."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def list_tree(roots: Iterable[int]) -> frozenset[int]:
    """Return the processes and all that they started, directly or not, as far as they still live.

    Linux keeps the children of every thread at hand; elsewhere all processes are looked through.
    """
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(_children(pid))
    return frozenset(found)


def _children(pid: int) -> list[int]:
    import psutil  # noqa: PLC0415 - loaded where a run needs it

    with suppress(OSError):  # the process ended, or the kernel keeps no such files
        lists = [file.read_text() for file in (_PROC / str(pid)).glob("task/*/children")]
        if lists:
            return [int(child) for text in lists for child in text.split()]
    with suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children()]
    return []
