"""How the parent and a worker talk: one order in, then one JSON line for each message out.

The messages travel over a connection of their own; stdout and stderr belong to the user's code.
"""

import importlib
from typing import Any

import msgspec

from advisor.engine.ends import UnforkableError, WorkerDeathError, WorkerTimeoutError
from advisor.engine.task import Task
from advisor.errors import (
    AdvisorError,
    DeviceCallError,
    DeviceError,
    GivenFileError,
    InternalError,
    SampleError,
    UsageError,
    WorkloadError,
)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the ranks that a worker starts stand among those of all nodes."""

    #: The first leads.
    node: int
    #: Of the leader, with the port at which workers and ranks of this task meet.
    host: str
    port: int
    #: Of its first rank, among `local_ranks` on its machine.
    local_rank: int = 0
    local_ranks: int = 1


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The one line a worker reads."""

    module: str
    type_name: str
    task: msgspec.Raw
    #: File into which the worker writes where its Python code stood when it crashed or was asked;
    #: outlives the worker.
    crash_path: str
    #: Whether what a script prints goes where this program's does.
    shows_output: bool = False
    #: None where all ranks are this worker's.
    place: Place | None = None

    def decode_task(self) -> Task[Any]:
        """Return the task; importing its type imports nothing that measures."""
        kind: type[Task[Any]] = getattr(importlib.import_module(self.module), self.type_name)
        task: Task[Any] = msgspec.json.decode(self.task, type=kind)
        return task


def make_order(
    task: Task[Any], crash_path: str, *, place: Place | None = None, shows_output: bool = False
) -> Order:
    """Return the order for a task."""
    kind = type(task)
    return Order(
        module=kind.__module__,
        type_name=kind.__name__,
        task=msgspec.Raw(msgspec.json.encode(task)),
        crash_path=crash_path,
        shows_output=shows_output,
        place=place,
    )


class Result(msgspec.Struct, frozen=True, kw_only=True, tag="result"):
    """A measurement, of the task's result type."""

    body: msgspec.Raw


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag="failure"):
    """The worker gave up."""

    #: Name of the exception that stands for it in the parent.
    kind: str
    message: str
    next_step: str | None = None
    #: The user's own traceback, from the first line of the user's code; for an internal failure the
    #: whole one.
    traceback: str | None = None
    #: Exit status of a rank that ended without a word.
    code: int | None = None


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """The task is complete; a stream that ends without it was cut off."""

    #: Whether the user's script could not go on, as where memory ran out.
    is_early: bool = False


class Exited(msgspec.Struct, frozen=True, kw_only=True, tag="exited"):
    """The worker's process has ended, as whoever started it says.

    `code` is its exit status; minus the number of the signal that killed it; None: not known.
    """

    code: int | None


Message = Result | Failure | Done | Exited


_ERRORS: dict[str, type[AdvisorError]] = {
    kind.__name__: kind
    for kind in (
        GivenFileError,
        SampleError,
        WorkerTimeoutError,
        WorkerDeathError,
        DeviceCallError,
        WorkloadError,
        UsageError,
        DeviceError,
        UnforkableError,
        InternalError,
    )
}


def failure_of(error: AdvisorError) -> Failure:
    """Return what is sent of an error; one that has no kind of its own is a fault of ours."""
    names = [each.__name__ for each in type(error).__mro__ if each.__name__ in _ERRORS]
    return Failure(
        kind=next(iter(names), InternalError.__name__),
        message=error.message,
        next_step=error.next_step,
        traceback=error.traceback,
        code=getattr(error, "code", None),
    )


def error_from(failure: Failure) -> AdvisorError:
    """Return the exception that stands for a worker's failure in the parent."""
    error = _ERRORS[failure.kind](
        failure.message, next_step=failure.next_step, traceback=failure.traceback
    )
    if isinstance(error, WorkerDeathError):
        error.code = failure.code
    return error
