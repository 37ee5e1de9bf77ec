"""What one worker says, taken in until it ends."""

import queue
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from advisor.engine.connection import DRAIN_S, REAP_S, Connection, Event
from advisor.engine.crash import describe_exit
from advisor.engine.ends import UnforkableError, WorkerDeathError
from advisor.engine.task import Task
from advisor.engine.wire import Failure, Message, Result, error_from

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
            if self._failure.kind == "unforkable":
                raise UnforkableError(self._failure.message)
            if self._failure.kind == "death":
                code = self._failure.code
                raise WorkerDeathError(
                    f"{self._failure.message} {describe_exit(code)}",
                    code=code,
                    next_step="Run the script under torchrun to see why.",
                )
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
