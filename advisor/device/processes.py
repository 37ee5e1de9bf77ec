"""The processes below one: those whose work and memory are our own."""

from collections.abc import Iterable
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
    found: list[int] = []
    try:
        for thread in (_PROC / str(pid) / "task").iterdir():
            try:
                found += map(int, (thread / "children").read_text().split())
            except FileNotFoundError:
                if thread.is_dir():  # else the thread ended
                    return _search_children(pid)  # the kernel keeps no such file
            except OSError:  # the process ended between opening and reading
                continue
    except FileNotFoundError:
        return _search_children(pid)
    except OSError:
        return found
    return found


def _search_children(pid: int) -> list[int]:
    import psutil  # noqa: PLC0415 - loaded where a run needs it

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []
