"""A running worker as the parent sees it: what it says, and the end of its process."""

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import msgspec
import psutil

from advisor.engine.ends import WorkerDeathError
from advisor.engine.task import Task
from advisor.engine.wire import Failure, Message, Result, error_from

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


_DECODER: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)

T = TypeVar("T")


class Stream(Generic[T]):
    """The messages of one worker, gathered until it ends."""

    def __init__(self, task: Task[T], on_result: Callable[[T], None] | None) -> None:
        self._type = task.result_type()
        self._on_result = on_result
        self._results: list[T] = []
        self._failure: Failure | None = None
        self._has_last_word = False
        self._hung_up = False
        self.code: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self._has_last_word or (self._hung_up and self.code is not None)

    @property
    def has_ended(self) -> bool:
        """Whether the worker said its last word, or its process or its messages ended without."""
        return self._has_last_word or self._hung_up or self.code is not None

    def take(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, int):
            self.code = event
            return
        if event is None:
            self._hung_up = True
            return
        message: Message = _DECODER.decode(event)
        if isinstance(message, Result):
            result: T = msgspec.json.decode(message.body, type=self._type)
            self._results.append(result)
            if self._on_result:
                self._on_result(result)
            return
        self._has_last_word = True
        self._failure = message if isinstance(message, Failure) else None

    def finish(self, death: Callable[[int | None], WorkerDeathError]) -> tuple[T, ...]:
        """Return the results, or raise what ended the worker."""
        if self._failure is not None:
            raise error_from(self._failure)
        if not self._has_last_word:
            raise death(self.code)
        return tuple(self._results)


def follow(connection: Connection, stream: Stream[Any], deadline: float) -> None:
    """Take in events until the worker's last word, or the deadline."""
    while not stream.is_complete:
        try:
            event = connection.events.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return
        stream.take(event)
        if not isinstance(event, bytes):  # lines on their way, or a process still to be reaped
            wait_s = REAP_S if event is None else DRAIN_S
            deadline = min(deadline, time.monotonic() + wait_s)
