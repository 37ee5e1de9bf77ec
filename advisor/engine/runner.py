"""Runs tasks in workers, one fresh process each, and turns every way they end into an answer."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from advisor.device.data import DeviceFacts, Telemetry
from advisor.device.telemetry import sampled
from advisor.engine.connection import Connection, Stream
from advisor.engine.ends import (
    LostServerError,
    NoTimeLeftError,
    UnforkableError,
    explain_death,
    explain_timeout,
)
from advisor.engine.imports import imported_modules
from advisor.engine.nodes import Leader
from advisor.engine.starters import Forkserver, Spawner, refuse_late
from advisor.engine.task import EnvironmentTask, Task, WorkloadTask
from advisor.engine.wire import Done, Exited, Failure, Place, error_from, make_order
from advisor.engine.witness import forget_output, list_files, read_last_lines
from advisor.errors import AdvisorError, DeviceCallError, WorkloadError
from advisor.training.data import Target

#: Time a worker gets to write down where it stands before it is killed.
_STAND_S = 0.3
#: Seconds for a first task: importing torch on a cold disk is not the user's time to budget.
COLD_START_S = 300.0

T = TypeVar("T")


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
        self._starter: Forkserver | Spawner | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="bsadvisor-")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
            AdvisorError: What the worker reported, or the device to another one after that;
                WorkerDeathError where it ended without a word, WorkerTimeoutError where it did not
                end.
        """
        deadline = time.monotonic() + timeout_s
        if self._starter is None:
            self._starter = self._open_starter(deadline)
        try:
            return self._run_once(self._starter, task, deadline, on_result, place)
        except (LostServerError, UnforkableError) as error:
            self._starter.close()
            is_lost = isinstance(error, LostServerError)
            self._starter = self._open_starter(deadline) if is_lost else Spawner()
            return self._run_once(self._starter, task, deadline, on_result, place)
        except DeviceCallError:
            if isinstance(task, WorkloadTask):
                # The line at which a lost device is first seen is no fault of the user's file.
                self.run(EnvironmentTask(device=task.workload.device), timeout_s=COLD_START_S)
            raise

    def watched(
        self, device: DeviceFacts, *, session: int
    ) -> AbstractContextManager[Callable[[], Telemetry]]:
        """Sample the counters until the block is left; see `advisor.device.telemetry.sampled`."""
        return sampled(device, session=session, own_pid=os.getpid())

    def break_off(self, error: AdvisorError) -> None:
        """Have the task that runs fail of an error, and all that follow; from any thread."""
        self._broken_by = error
        if self._connection is not None:
            self._connection.messages.put(Exited(code=0))  # as if its worker had ended

    def _open_starter(self, deadline: float) -> Forkserver | Spawner:
        if os.environ.get("BSADVISOR_START_METHOD") == "spawn" or sys.platform != "linux":
            return Spawner()
        path = self._target.path if self._target else None
        names = imported_modules(Path(path)) if path else ()
        whole_s = deadline - time.monotonic()
        try:
            return Forkserver(names, deadline)
        except LostServerError:  # a worker that imports what ended it, or hangs, says where
            if not names:
                raise
            try:
                return Forkserver((), deadline)
            except NoTimeLeftError as error:
                raise refuse_late("torch and what the file imports", whole_s) from error

    def _run_once(
        self,
        starter: Forkserver | Spawner,
        task: Task[T],
        deadline: float,
        on_result: Callable[[T], None] | None,
        place: Place | None,
    ) -> tuple[T, ...]:
        crash_path = Path(self._directory.name) / "crash.txt"
        crash_path.write_bytes(b"")
        forget_output(crash_path.parent)
        if self._leader is not None:
            place = self._leader.order(task)
        order = make_order(task, str(crash_path), place=place, shows_output=self._shows_output)
        stream, began = Stream(task, on_result), time.monotonic()
        try:
            self._connection = starter.start(msgspec.json.encode(order) + b"\n")
            if self._broken_by is None:
                stream.follow(self._connection, deadline)
            if self._broken_by is not None:
                raise self._broken_by
            if stream.last_word is None:
                self._connection.ask_where_it_stands()
                time.sleep(_STAND_S)
                raise explain_timeout(task, crash_path, max(0.0, deadline - began))
        finally:
            starter.clean_up()
        last = stream.last_word
        if isinstance(last, Done):
            return tuple(stream.results)
        if isinstance(last, Failure):
            error = error_from(last)
        else:
            error = explain_death(task, crash_path, last.code)
        if task.script is not None and isinstance(error, WorkloadError):
            error.traceback = error.traceback or read_last_lines(crash_path.parent)
        raise error

    @property
    def written_files(self) -> tuple[str, ...]:
        """Files that a script wrote in these workers, and that are there still."""
        return list_files(Path(self._directory.name))
