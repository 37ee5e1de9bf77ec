"""A running worker as the parent sees it: the lines it sends, and the end of its process."""

import contextlib
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import psutil

#: A worker that ended has sent all it will ever send; its pipe may be held open by its orphans.
DRAIN_S = 0.5
#: A worker's messages end long before its process where the device's driver tears down its state.
REAP_S = 10.0


class Exit:
    """The end of a worker's process.

    Attributes:
        code: Exit status; minus the number of the signal that killed it.
    """

    def __init__(self, code: int) -> None:
        self.code = code


class Hangup:
    """The end of the worker's messages."""


Event = bytes | Exit | Hangup


class Connection:
    """Events of one worker, collected by threads so that the caller can wait with a deadline.

    Attributes:
        pid: The worker's process.
        events: Lines, then a Hangup, and at some point an Exit.
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
        self.events.put(Hangup())


def python_command(module: str) -> list[str]:
    """Return the command that runs `main` of a module of this package in a new interpreter.

    Without the working directory on the path (-P): a folder there that is called as this package,
    or as one of torch's dependencies, must not stand in for it.
    """
    root = str(Path(__file__).resolve().parent.parent.parent)
    start = f"import sys; sys.path.append({root!r}); from {module} import main; main()"
    return [sys.executable, "-P", "-c", start]


def kill_tree(pid: int) -> None:
    """Kill the process and all its descendants, and wait until they are gone."""
    try:
        root = psutil.Process(pid)
        doomed = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    kill_all(doomed)


def kill_all(processes: list[psutil.Process]) -> None:
    """Kill the processes and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=2)
