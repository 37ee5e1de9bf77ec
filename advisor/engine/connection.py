"""A running worker as the parent sees it: the lines it sends, and the end of its process."""

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import psutil

#: A worker that ended has sent all it will ever send; its pipe may be held open by its orphans.
DRAIN_S = 0.5
#: A worker's messages end long before its process where the device's driver tears down its state.
REAP_S = 10.0
#: To kill what workers left: only a process stuck in the kernel lasts longer.
_KILL_S = 5.0
#: For one round of killing.
_ROUND_S = 0.1


#: A line of a worker; the exit status of its process, minus the number of the signal that killed
#: it; or None, the end of its messages.
Event = bytes | int | None


class Connection:
    """Events of one worker, collected by threads so that the caller can wait with a deadline.

    `events` has lines, then None, and at some point the exit status.
    """

    def __init__(self, pid: int, stream: IO[bytes], interrupt: Callable[[], None]) -> None:
        self.pid = pid
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.ask_where_it_stands = interrupt
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: IO[bytes]) -> None:
        with stream, contextlib.suppress(OSError, ValueError):
            for line in stream:
                self.events.put(line)
        self.events.put(None)


def python_command(module: str) -> list[str]:
    """Return the command that runs `main` of a module of this package in a new interpreter.

    Without the working directory on the path (-P): a folder there that is called as this package,
    or as one of torch's dependencies, must not stand in for it.
    """
    root = str(Path(__file__).resolve().parent.parent.parent)
    start = f"import sys; sys.path.append({root!r}); from {module} import main; main()"
    return [sys.executable, "-P", "-c", start]


def kill_tree(pid: int, *, but_root: bool = False) -> None:
    """Kill all descendants of the process, and itself, and wait until they are gone.

    A reaper gets what its killed children leave as children of its own, so it takes rounds.
    """
    deadline = time.monotonic() + _KILL_S
    while time.monotonic() < deadline and (doomed := _list_living(pid, but_root=but_root)):
        for process in doomed:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(doomed, timeout=_ROUND_S)


def _list_living(pid: int, *, but_root: bool) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        tree = [*root.children(recursive=True), *([] if but_root else [root])]
    except psutil.NoSuchProcess:
        return []
    living = []
    for process in tree:
        with contextlib.suppress(psutil.Error):
            living += [process] if process.status() != psutil.STATUS_ZOMBIE else []
    return living
