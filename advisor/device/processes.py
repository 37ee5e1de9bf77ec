"""The processes below one: those whose work and memory are our own."""

from collections.abc import Iterable, Iterator
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


def _children(pid: int) -> Iterator[int]:
    threads = _PROC / str(pid) / "task"
    if not threads.is_dir():
        yield from _search_children(pid)
        return
    for thread in _list_directory(threads):
        try:
            text = (thread / "children").read_text()
        except FileNotFoundError:  # the thread ended, or the kernel keeps no such file
            if thread.is_dir():
                yield from _search_children(pid)
                return
        except OSError:  # the process ended between opening and reading
            continue
        else:
            yield from map(int, text.split())


def _list_directory(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError:
        return []


def _search_children(pid: int) -> list[int]:
    import psutil  # noqa: PLC0415 - loaded where a run needs it

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []
