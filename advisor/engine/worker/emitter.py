"""What a worker sends: results, and its last word."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NoReturn, TypeVar

import msgspec

from advisor.engine.ends import MUTE_STATUS
from advisor.engine.task import Task
from advisor.engine.wire import Done, Failure, Message, Result, failure_of
from advisor.engine.worker.failure import explain
from advisor.training.script.running import Ending

#: Modules that this program and torch call by name.
_WATCHED = (
    "builtins",
    "gc",
    "itertools",
    "math",
    "os",
    "random",
    "time",
    "torch",
    "torch.nn",
    "torch.nn.functional",
    "torch.optim",
    "torch.utils.data",
)

T = TypeVar("T")
Emit = Callable[[T], None]


class Emitter(Ending):
    """Sends the results of a task, and ends its process where the user's code must not go on.

    Its folder outlives the worker, and goes with the command.
    """

    def __init__(self, task: Task[Any], write: Callable[[Message], None], folder: Path) -> None:
        self._task, self._write, self.folder = task, write, folder
        self._pid, self._originals = os.getpid(), _Originals()

    def __call__(self, result: Any) -> None:
        """Send a result."""
        self.send(Result(body=msgspec.Raw(msgspec.json.encode(result))))

    def say_done(self) -> None:
        """Say that all results were sent."""
        self.send(Done())

    def leave(self) -> NoReturn:
        """Say that the task is done, and end the process as it stands."""
        self._end(Done())

    def stop(self) -> NoReturn:
        """The same, where the script cannot go on."""
        self._end(Done(is_early=True))

    def fail(self, error: BaseException, *, tells_of_child: bool = True) -> NoReturn:
        """Say what ended the task, in a child of its process too or not; end as it stands."""
        replaced = self._originals.restore()  # first: what tells of the failure needs them
        if not tells_of_child and os.getpid() != self._pid:
            code = error.code if isinstance(error, SystemExit) else 1  # as Python itself ends
            os._exit(code if isinstance(code, int) else int(code is not None))
        self._end(failure_of(explain(error, self._task, replaced)))

    def send(self, message: Message) -> None:
        """Send a message; a child that the user's code forked, and that went on here, just ends."""
        if os.getpid() != self._pid and not isinstance(message, Failure):
            os._exit(0)
        self._write(message)

    def _end(self, message: Message) -> NoReturn:
        try:
            self.send(message)
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):  # the user's, and may be closed
                    stream.flush()
        finally:
            os._exit(0)  # the user's atexit handlers and threads must not hold the worker


def open_channel(stream: BinaryIO) -> Callable[[Message], None]:
    """Return what writes messages to the stream, for as long as that is what it was."""
    connected = _identify(stream)

    def write(message: Message) -> None:
        if _identify(stream) != connected:  # closed by the user's code, its number used again
            os._exit(MUTE_STATUS)
        stream.write(msgspec.json.encode(message) + b"\n")
        stream.flush()

    return write


def _identify(stream: BinaryIO) -> tuple[int, int] | None:
    """Return which open file the stream is; None where it is none any more."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


class _Originals:
    """The names of those modules as they are now, which the user's file may put others in place of.

    What works on a broken interpreter must lean on nothing that may be broken: it calls no builtin.
    """

    def __init__(self) -> None:
        self._modules: list[tuple[str, ModuleType, dict[str, object]]] = [
            (name, sys.modules[name], dict(vars(sys.modules[name])))
            for name in _WATCHED
            if name in sys.modules
        ]

    def restore(self) -> list[str]:
        """Put back what was replaced or deleted since; return the names of it."""
        replaced = []
        for module_name, module, originals in self._modules:
            now = module.__dict__
            for name, original in originals.items():
                if name in now and now[name] is original:
                    continue
                if module_name != "builtins" and name[:1] == "_":  # the module's own affair
                    continue
                now[name] = original
                replaced.append(f"{module_name}.{name}")
        return replaced
