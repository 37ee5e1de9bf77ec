"""What is told of an error in a worker: whose it is, where, and what to do about it."""

import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from advisor.engine.ends import PACKAGE, is_library
from advisor.engine.task import Task, WorkloadTask
from advisor.errors import (
    AdvisorError,
    DeviceCallError,
    DeviceError,
    InternalError,
    SampleError,
    WorkloadError,
    clean,
    place_of,
)

#: Characters of a failure's text that are told; some hold whole tensors.
_TEXT_LENGTH = 10_000
#: The same of a device's, which names every process on it, and where advice of torch's begins.
_DEVICE_TEXT_LENGTH = 160
_ADVICE = (" Search for `", ". Please ", " CUDA kernel errors might")


def explain(error: BaseException, task: Task[Any], replaced: Sequence[str] = ()) -> AdvisorError:
    """Return what is told of an error: whose it is, where, and what to do about it.

    `replaced` has what the user's file had put in place of torch's and Python's own.
    """
    from advisor.training.device_failure import (  # noqa: PLC0415 - has torch
        explain_device_failure,
        is_device_call,
    )

    users = DeviceCallError if is_device_call(error) else WorkloadError
    target = task.workload.file if isinstance(task, WorkloadTask) else None
    if isinstance(error, AdvisorError):
        error.traceback = error.traceback or _user_traceback(error.__cause__)
        is_users = type(error) in {WorkloadError, SampleError}
        if is_users and target and target.partition(":")[0] not in error.message:
            error.message = f"{target}: {error.message}"
        if type(error) is WorkloadError:
            return users(error.message, next_step=error.next_step, traceback=error.traceback)
        return error
    place, where = place_of(error), location_of(error)
    explained = explain_device_failure(error, is_users=where is not None)
    if explained is not None:
        said = describe(error)[:_DEVICE_TEXT_LENGTH]
        for advice in _ADVICE:
            said = said.partition(advice)[0]
        return DeviceError(
            f"the GPU cannot be used: {explained[0]} ({said})", next_step=explained[1]
        )
    if replaced and where is None and target:
        return WorkloadError(
            f"{target} replaces {', '.join(replaced)}, which this program and torch need: "
            f"{describe(error)}",
            next_step="Leave these as they are, and give what the file has of its own other names.",
        )
    if target is None or (place is None and _user_frames(error.__traceback__) is None):
        return InternalError(
            describe(error), traceback=clean("".join(traceback.format_exception(error)))
        )
    what, next_step = place or ("", None)
    said = f"{where or target}: {describe(error)}"
    return users(
        f"{said}, in {what}" if what else said,
        next_step=next_step or _advise(said, "script" if task.script else "model file"),
        traceback=_user_traceback(error),
    )


def _advise(said: str, file: str) -> str:
    """Return what to do about an error that no part of the user's file was named for."""
    if "torchinductor" in said and "file too short" in said:
        return (
            "A compilation that was killed left that file in torch's cache of compiled code: "
            "delete it, and try once more."
        )
    return f"Correct the {file} there."


def describe(error: BaseException) -> str:
    """Return the exception's type and text in one line, even where its `__str__` fails."""
    try:
        text = clean(" ".join(str(error).split()))[:_TEXT_LENGTH]
    except Exception:  # noqa: BLE001 - a broken __str__ is the user's
        text = "(its message could not be printed)"
    if isinstance(error, SystemExit):
        return f"the file called sys.exit({text})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def location_of(error: BaseException) -> str | None:
    """Return `file:line` of the innermost line of the user's own code, None where there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    own = (
        f"{frame.f_code.co_filename}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not is_library(frame.f_code.co_filename)
    )
    return next(reversed([*own]), None)


def _user_traceback(error: BaseException | None) -> str | None:
    """Return the traceback from the user's first line on, without frames of this program."""
    frames = None if error is None else _user_frames(error.__traceback__)
    if error is None or (frames is None and not isinstance(error, SyntaxError)):
        return None
    told = traceback.TracebackException.from_exception(error.with_traceback(frames))
    each: traceback.TracebackException | None = told
    while each is not None:
        kept = [frame for frame in each.stack if not frame.filename.startswith(PACKAGE)]
        each.stack = traceback.StackSummary.from_list(kept)
        each = each.__cause__ or each.__context__
    return clean("".join(told.format()))


def _user_frames(frames: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the user's first line, else from the first line that is not ours.

    The second is an error inside torch with no line of the user's in it, as in a backward pass.
    """
    foreign = None
    while frames is not None:
        path = frames.tb_frame.f_code.co_filename
        if not path.startswith(("<frozen", PACKAGE)):
            foreign = foreign or frames
            if not is_library(path):
                return frames
        frames = frames.tb_next
    return foreign
