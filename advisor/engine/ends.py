"""The ways a worker ends that are no answer: what is said of them."""

from pathlib import Path
from typing import Any

from advisor.engine.crash import MUTE_STATUS, describe_exit, find_location
from advisor.engine.task import Task, WorkloadTask
from advisor.errors import InconclusiveError, InternalError, WorkloadError

#: A task that was given less ends for want of time, not for what it does.
_HASTY_S = 2.0


class WorkerDeathError(WorkloadError):
    """The user's code ended its process.

    Attributes:
        code: Exit status; minus the number of the signal that killed it; None where its messages
            ended and how the process ended is not known.
    """

    def __init__(self, message: str, *, code: int | None = None, **more: str | None) -> None:
        super().__init__(message, **more)
        self.code = code


class WorkerTimeoutError(WorkloadError):
    """The user's code did not end in time."""


class NoTimeLeftError(WorkerTimeoutError):
    """What was left of the budget sufficed for nothing: no fault of the user's code."""

    exit_code = InconclusiveError.exit_code


class LostServerError(InternalError):
    """The process that forks the workers is gone, as where the system's memory ran out."""


class UnforkableError(InternalError):
    """Workers cannot be forked: a preloaded package initialised CUDA."""


def is_script(task: Task[Any]) -> bool:
    """Return whether a task runs the user's own script."""
    return isinstance(task, WorkloadTask) and task.workload.script is not None


def explain_timeout(task: Task[Any], crash_path: Path, timeout_s: float) -> WorkerTimeoutError:
    """Return what is said of a worker that did not end."""
    where = find_location(crash_path) or ""
    what = "take the optimizer steps that were waited for" if is_script(task) else "finish"
    said = f"{_name(task)} did not {what} within {timeout_s:.0f} s"
    if timeout_s < _HASTY_S:
        return NoTimeLeftError(
            f"{said}, all that was left of the budget", next_step="Raise --budget."
        )
    next_step = "Look for an endless loop or a lock there, or give more time with --budget."
    if where.endswith("in <module>") and not is_script(task):
        next_step = (
            "It was still being imported: put what trains or waits there under "
            'if __name__ == "__main__":, or give more time with --budget.'
        )
    return WorkerTimeoutError(
        f"{said}; it stood at {where}" if where else said, next_step=next_step
    )


def explain_death(task: Task[Any], crash_path: Path, code: int | None) -> WorkerDeathError:
    """Return what is said of a worker whose process ended without a word."""
    where = find_location(crash_path)
    how = (
        "script by hand with the same arguments"
        if is_script(task)
        else "model file's training step on its own"
    )
    return WorkerDeathError(
        f"{_name(task)} {describe_exit(code)}" + (f" at {where}" if where else ""),
        code=code,
        next_step="Close only what the file opened, not a range of descriptors (os.closerange)."
        if code == MUTE_STATUS
        else f"Run the {how} to see why.",
    )


def _name(task: Task[Any]) -> str:
    return task.workload.target if isinstance(task, WorkloadTask) else "the worker"
