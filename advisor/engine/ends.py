"""How a worker ended that gives no answer, where its code stood then, and what is said of it."""

import os
import re
import signal
import sysconfig
from pathlib import Path
from typing import Any

from advisor.engine.task import InspectTask, ScriptTask, Task, WorkloadTask
from advisor.errors import InconclusiveError, InternalError, WorkloadError
from advisor.units import format_count, format_duration

#: A task that was given less ends for want of time, not for what it does.
_HASTY_S = 2.0
_FRAME = re.compile(r'File "(?P<path>.+)", line (?P<line>\d+) in (?P<name>.+)')
#: Of this program's own code.
PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep
#: With which a worker ends that cannot say a word: the user's code closed its connection.
MUTE_STATUS = 71


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
    """The budget ended what may have worked: no fault of the user's code that is known."""

    exit_code = InconclusiveError.exit_code


class LostServerError(InternalError):
    """The process that forks the workers is gone, as where the system's memory ran out."""


class UnforkableError(InternalError):
    """Workers cannot be forked: a preloaded package initialised CUDA."""


def explain_timeout(task: Task[Any], crash_path: Path, timeout_s: float) -> WorkerTimeoutError:
    """Return what is said of a worker that did not end."""
    where = find_location(crash_path) or ""
    what = "take the optimizer steps that were waited for" if task.script else "finish"
    said = f"{_name(task)} did not {what} within {format_duration(timeout_s)}"
    is_importing = where.endswith("in <module>") and not task.script
    if timeout_s < _HASTY_S or not isinstance(task, WorkloadTask):
        stood = f"; it stood at {where}, still being imported" * is_importing
        return NoTimeLeftError(
            f"{said}, all that was left of the budget{stood}", next_step="Raise --budget."
        )
    next_step = "Look for an endless loop or a lock there, or give more time with --budget."
    if is_importing:
        next_step = (
            "It was still being imported: put what trains or waits there under "
            'if __name__ == "__main__":, or give more time with --budget.'
        )
    if where:
        said = f"{said}; it stood at {where}"
    # What has got through its first steps may just be slow.
    is_opening = isinstance(task, InspectTask | ScriptTask)
    return (WorkerTimeoutError if is_opening else NoTimeLeftError)(said, next_step=next_step)


def explain_death(task: Task[Any], crash_path: Path, code: int | None) -> WorkerDeathError:
    """Return what is said of a worker whose process ended without a word."""
    where = find_location(crash_path)
    size = getattr(task, "micro_batch_size", None)
    batch = "" if size is None else f", with batches of {format_count(size)}"
    how = (
        "script by hand with the same arguments"
        if task.script
        else "model file's training step on its own"
    )
    return WorkerDeathError(
        f"{_name(task)} {describe_exit(code)}" + (f" at {where}" if where else "") + batch,
        code=code,
        next_step="Close only what the file opened, not a range of descriptors (os.closerange)."
        if code == MUTE_STATUS
        else f"Run the {how} to see why.",
    )


def _name(task: Task[Any]) -> str:
    return task.workload.file if isinstance(task, WorkloadTask) else "the worker"


def find_location(crash_path: Path) -> str | None:
    """Return `file:line in function` of the innermost line of the user's own code, if noted."""
    for match in _FRAME.finditer(crash_path.read_text(errors="replace")):
        if not is_library(match["path"]):
            return f"{match['path']}:{match['line']} in {match['name']}"
    return None


def is_library(path: str) -> bool:
    """Return whether code at the path is not the user's: installed, Python's, or this program's."""
    if "site-packages" in path or "torchinductor_" in path:  # the latter is compiled by torch
        return True
    return path.startswith((PACKAGE, sysconfig.get_path("stdlib"), "<"))


def describe_exit(code: int | None) -> str:
    """Return how a process ended, in words; None stands for an end that nobody saw."""
    if code is None:
        return "ended without a word, and how is not known"
    if code == MUTE_STATUS:
        return "closes files that it did not open, the connection to this program among them"
    if code >= 0:
        return f"ended the process with exit status {code} (os._exit?)"
    known = {
        -signal.SIGSEGV: "crashed with a segmentation fault (SIGSEGV)",
        -9: "was killed (SIGKILL), as the kernel does when memory runs out",
    }
    names = {-number: number.name for number in signal.Signals}
    return known.get(code) or f"was ended by {names.get(code, f'signal {-code}')}"
