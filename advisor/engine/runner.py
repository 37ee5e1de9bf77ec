"""Runs tasks in workers, one fresh process each, and turns every way they end into an answer."""

import os
import queue
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import msgspec

from advisor.device.data import DeviceFacts, Telemetry
from advisor.device.telemetry import sampled
from advisor.engine.connection import DRAIN_S, REAP_S, Connection, Event
from advisor.engine.crash import MUTE_STATUS, describe_exit, find_location
from advisor.engine.forkserver import Forkserver
from advisor.engine.imports import imported_modules
from advisor.engine.leading import Leader
from advisor.engine.spawn import Spawner
from advisor.engine.task import Task, WorkloadTask
from advisor.engine.wire import Failure, Message, Place, Result, error_from, make_order
from advisor.engine.witness import forget_output, list_files, read_last_lines
from advisor.errors import AdvisorError, InconclusiveError, InternalError, WorkloadError
from advisor.training.data import Target

#: Time a worker gets to write down where it stands before it is killed.
_STAND_S = 0.3
#: A task that was given less ends for want of time, not for what it does.
_HASTY_S = 2.0
#: Seconds for a first task: importing torch on a cold disk is not the user's time to budget.
COLD_START_S = 300.0

_DECODER: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)

T = TypeVar("T")


class TaskRunner(Protocol):
    """Answers tasks: with workers (`Runner`), or in a test from a recorded run."""

    def run(
        self, task: Task[T], *, timeout_s: float, on_result: Callable[[T], None] | None = None
    ) -> tuple[T, ...]:
        """Return the results of the task, in the order they came."""

    def watched(
        self, device: DeviceFacts, *, session: int
    ) -> AbstractContextManager[Callable[[], Telemetry]]:
        """Watch the counters while a session runs; yield a function that returns them so far."""


class Starter(Protocol):
    """Starts workers and cleans up after them."""

    def start(self, order: bytes) -> Connection:
        """Return the connection to a new worker that has been sent the order."""

    def clean_up(self) -> None:
        """Kill the worker and all that it started."""

    def close(self) -> None:
        """Leave nothing behind."""


class WorkerDeathError(WorkloadError):
    """The user's code ended its process.

    Attributes:
        code: Exit status; minus the number of the signal that killed it; None where its messages
            ended and how the process ended is not known.
    """

    def __init__(self, message: str, *, code: int | None, next_step: str) -> None:
        super().__init__(message, next_step=next_step)
        self.code = code


class WorkerTimeoutError(WorkloadError):
    """The user's code did not end in time."""


class NoTimeLeftError(WorkerTimeoutError):
    """What was left of the budget sufficed for nothing: no fault of the user's code."""

    exit_code = InconclusiveError.exit_code


class UnforkableError(InternalError):
    """Workers cannot be forked: a preloaded package initialised CUDA."""


class Runner:
    """A context in which tasks run; on leaving it no process is left.

    Args:
        target: The user's model file; None where no task needs one.
        leader: Has other nodes run their ranks of each task.
        shows_output: Whether to show what a script prints at each start.
    """

    def __init__(
        self, target: Target | None, leader: Leader | None = None, *, shows_output: bool = False
    ) -> None:
        self._target, self._leader, self._shows_output = target, leader, shows_output
        self._connection: Connection | None = None
        self._broken_by: AdvisorError | None = None
        self._starter: Starter | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="bsadvisor-")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        frames: TracebackType | None,
    ) -> None:
        if self._starter is not None:
            self._starter.close()
        self._directory.cleanup()

    def run(
        self,
        task: Task[T],
        *,
        timeout_s: float,
        on_result: Callable[[T], None] | None = None,
        place: Place | None = None,
    ) -> tuple[T, ...]:
        """Return the results of the task, in the order they came.

        The worker is killed after `timeout_s`; `on_result` gets each result as it comes; `place`
        says which ranks of several nodes are its own.

        Raises:
            AdvisorError: What the worker reported; WorkerDeathError where it ended without a word,
                WorkerTimeoutError where it did not end.
        """
        if self._starter is None:
            self._starter = self._open_starter()
        try:
            return self._run_once(self._starter, task, timeout_s, on_result, place)
        except UnforkableError:
            self._starter.close()
            self._starter = Spawner()
            return self._run_once(self._starter, task, timeout_s, on_result, place)

    def watched(
        self, device: DeviceFacts, *, session: int
    ) -> AbstractContextManager[Callable[[], Telemetry]]:
        """Sample the counters until the block is left; see `advisor.device.telemetry.sampled`."""
        return sampled(device, session=session, own_pid=os.getpid())

    def break_off(self, error: AdvisorError) -> None:
        """Have the task that runs fail of an error, and all that follow; from any thread."""
        self._broken_by = error
        if self._connection is not None:
            for event in (None, 0):  # as if its worker had ended
                self._connection.events.put(event)

    def _open_starter(self) -> Starter:
        method = os.environ.get("BSADVISOR_START_METHOD")
        if method == "spawn" or sys.platform != "linux":
            return Spawner()
        path = self._target.path if self._target else None
        return Forkserver(imported_modules(Path(path)) if path else ())

    def _run_once(
        self,
        starter: Starter,
        task: Task[T],
        timeout_s: float,
        on_result: Callable[[T], None] | None,
        place: Place | None,
    ) -> tuple[T, ...]:
        crash_path = Path(self._directory.name) / "crash.txt"
        crash_path.write_bytes(b"")
        forget_output(crash_path.parent)
        if self._leader is not None:
            place = self._leader.order(task)
        made = make_order(task, str(crash_path), place=place, shows_output=self._shows_output)
        order = msgspec.json.encode(made) + b"\n"
        deadline = time.monotonic() + timeout_s
        stream = _Stream(task, on_result)
        is_script = isinstance(task, WorkloadTask) and task.workload.script is not None
        try:
            self._connection = connection = starter.start(order)
            if self._broken_by is None:
                _follow(connection, stream, deadline)
            if self._broken_by is not None:
                raise self._broken_by
            if not stream.has_ended:
                connection.ask_where_it_stands()
                time.sleep(_STAND_S)
                raise self._timeout_error(crash_path, timeout_s, is_script=is_script)
        finally:
            starter.clean_up()
        try:
            return stream.finish(
                lambda code: self._death_error(crash_path, code, is_script=is_script)
            )
        except WorkloadError as error:
            if is_script and error.traceback is None:
                error.traceback = read_last_lines(crash_path.parent)
            raise

    @property
    def written_files(self) -> tuple[str, ...]:
        """Files that a script wrote in these workers, and that are there still."""
        return list_files(Path(self._directory.name))

    def _file(self) -> str:
        return self._target.text if self._target else "the worker"

    def _timeout_error(
        self, crash_path: Path, timeout_s: float, *, is_script: bool
    ) -> WorkerTimeoutError:
        where = find_location(crash_path) or ""
        what = "take the optimizer steps that were waited for" if is_script else "finish"
        said = f"{self._file()} did not {what} within {timeout_s:.0f} s"
        if timeout_s < _HASTY_S:
            return NoTimeLeftError(
                f"{said}, all that was left of the budget", next_step="Raise --budget."
            )
        next_step = "Look for an endless loop or a lock there, or give more time with --budget."
        if where.endswith("in <module>") and not is_script:
            next_step = (
                "It was still being imported: put what trains or waits there under "
                'if __name__ == "__main__":, or give more time with --budget.'
            )
        return WorkerTimeoutError(
            f"{said}; it stood at {where}" if where else said, next_step=next_step
        )

    def _death_error(
        self, crash_path: Path, code: int | None, *, is_script: bool
    ) -> WorkerDeathError:
        where = find_location(crash_path)
        how = (
            "script by hand with the same arguments"
            if is_script
            else "model file's training step on its own"
        )
        return WorkerDeathError(
            f"{self._file()} {describe_exit(code)}" + (f" at {where}" if where else ""),
            code=code,
            next_step="Close only what the file opened, not a range of descriptors (os.closerange)."
            if code == MUTE_STATUS
            else f"Run the {how} to see why.",
        )


class _Stream(Generic[T]):
    """The messages of one worker, gathered until it ends.

    Attributes:
        code: Exit status of the process; None until it is known.
    """

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


def _follow(connection: Connection, stream: _Stream[Any], deadline: float) -> None:
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
