"""What a worker sends: results, and its last word."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from advisor.engine.task import Task
from advisor.engine.wire import Done, Failure, Message, Result
from advisor.engine.worker.failure import failure_from
from advisor.engine.worker.replaced import Originals
from advisor.training.script.ending import Ending

T = TypeVar("T")
Emit = Callable[[T], None]


class Emitter(Ending):
    """Sends the results of a task, and ends its process where the user's code must not go on.

    Its folder outlives the worker, and goes with the command.
    """

    def __init__(
        self,
        task: Task[Any],
        send: Callable[[Message], None],
        write: Callable[[Message], None],
        originals: Originals,
        folder: Path,
    ) -> None:
        self._task, self._send, self._write = task, send, write
        self._originals, self.folder = originals, folder

    def __call__(self, result: Any) -> None:
        """Send a result."""
        self._send(Result(body=msgspec.Raw(msgspec.json.encode(result))))

    def leave(self) -> NoReturn:
        """Say that the task is done, and end the process as it stands."""
        self._end(self._send, Done())

    def relay(self, failure: Failure) -> None:
        """Send what another process said of its failure."""
        self._send(failure)

    def fail(self, error: BaseException) -> NoReturn:
        """Say what ended the task, in a child of its process too, and end this one as it stands."""
        replaced = self._originals.restore()
        self._end(self._write, failure_from(error, self._task, replaced))

    def _end(self, send: Callable[[Message], None], message: Message) -> NoReturn:
        try:
            send(message)
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):  # the user's, and may be closed
                    stream.flush()
        finally:
            os._exit(0)
