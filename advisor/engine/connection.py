"""A running worker as the parent sees it: what it says, and the end of its process."""

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Generic, TypeVar

import msgspec
import psutil

from advisor.engine.task import Task
from advisor.engine.wire import Done, Exited, Failure, Message, Result

#: To kill what workers left: only a process stuck in the kernel lasts longer.
_KILL_S = 5.0
#: For one round of killing.
_ROUND_S = 0.1

_DECODER: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)

T = TypeVar("T")


class Connection:
    """Messages of one worker, collected by a thread so that the caller can wait with a deadline.

    The last is its exit, by `wait` where nobody sent that.
    """

    def __init__(self, pid: int, stream: IO[bytes], wait: Callable[[], int | None]) -> None:
        self._pid, self._wait = pid, wait
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: IO[bytes]) -> None:
        with stream, contextlib.suppress(OSError, ValueError):
            for line in stream:
                with contextlib.suppress(msgspec.MsgspecError):  # cut off by its end
                    self.messages.put(_DECODER.decode(line))
        self.messages.put(Exited(code=self._wait()))

    def ask_where_it_stands(self) -> None:
        """Have it write that down, where the system can ask."""
        if hasattr(signal, "SIGUSR1"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGUSR1)


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


class Stream(Generic[T]):
    """What one worker says, gathered until it ends.

    Attributes:
        results: In the order they came.
        last_word: How it ended; None where it has not yet.
    """

    def __init__(self, task: Task[T], on_result: Callable[[T], None] | None) -> None:
        self._type, self._on_result = task.result_type(), on_result
        self.results: list[T] = []
        self.last_word: Failure | Done | Exited | None = None

    def follow(self, connection: Connection, deadline: float) -> None:
        """Take in messages until the worker's last word, or the deadline."""
        while self.last_word is None:
            try:
                message = connection.messages.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            if not isinstance(message, Result):
                self.last_word = message
                continue
            result: T = msgspec.json.decode(message.body, type=self._type)
            self.results.append(result)
            if self._on_result:
                self._on_result(result)
