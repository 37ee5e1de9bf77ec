"""One worker: read the order, run its task, stream the results, and say how it ended."""

import contextlib
import faulthandler
import importlib
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, TypeVar

import msgspec

from advisor.engine.crash import MUTE_STATUS, PACKAGE, is_library
from advisor.engine.task import Task, WorkloadTask
from advisor.engine.wire import Done, Failure, Message, Order, Place, Result, kind_of
from advisor.engine.worker.replaced import Originals
from advisor.engine.worker.witness import keep_output, note_files
from advisor.errors import AdvisorError, clean, place_of
from advisor.training.checkout import enter_checkout
from advisor.training.script.word import WordFile

#: Characters of a failure's text that are told; some hold whole tensors.
_TEXT_LENGTH = 10_000
#: The same of a device's, which names every process on it.
_DEVICE_TEXT_LENGTH = 160
T = TypeVar("T")
Emit = Callable[[T], None]


def run_worker(orders: BinaryIO, messages: BinaryIO) -> None:
    """Run the one order in `orders`; every way it can end in Python is a message."""
    order = msgspec.json.decode(orders.readline(), type=Order)
    task = order.decode_task()

    own_pid, connected, originals = os.getpid(), _identify(messages), Originals()

    def write(message: Message) -> None:
        if _identify(messages) != connected:  # closed by the user's code, its number used again
            os._exit(MUTE_STATUS)
        messages.write(msgspec.json.encode(message) + b"\n")
        messages.flush()

    def send(message: Message) -> None:
        if os.getpid() != own_pid:  # a child that the user's code forked, and that went on here
            os._exit(0)
        write(message)

    with open(order.crash_path, "ab", buffering=0) as crash_file:  # noqa: PTH123 - kept open
        faulthandler.enable(crash_file, all_threads=False)
        if hasattr(faulthandler, "register"):
            faulthandler.register(signal.SIGUSR1, crash_file, all_threads=False)
        try:
            _witness(task, order)
            emit = Emitter(task, send, write, originals, Path(order.crash_path).parent)
            _run_task(task, order.place, emit)
            send(Done())  # after a failure that was relayed it is not read any more
        except BaseException as error:  # noqa: BLE001 - SystemExit and all others are the user's
            replaced = originals.restore()  # first: what tells of the failure needs them
            if os.getpid() != own_pid:
                os._exit(_exit_status_of(error))
            send(failure_from(error, task, replaced))
        finally:
            faulthandler.disable()


class Emitter:
    """Sends the results of a task, and ends its process where the user's code must not go on.

    Attributes:
        folder: Outlives the worker, and goes with the command.
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

    #: What passes words among ranks; None where there is one alone.
    words: WordFile | None = None

    @property
    def goes_on(self) -> bool:
        """Whether the user's script goes on once enough was seen of it."""
        return False

    def leave(self) -> NoReturn:
        """Say that the task is done, and end the process as it stands."""
        self._end(self._send, Done())

    def stop(self) -> NoReturn:
        """The same, where the script cannot go on."""
        self.leave()

    def say_done(self) -> None:
        """Say that all was sent, where the process goes on."""

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


def _witness(task: Task[Any], order: Order) -> None:
    """Keep what a script writes: its output, and which files."""
    if not isinstance(task, WorkloadTask) or task.workload.script is None:
        return
    folder = Path(order.crash_path).parent
    if not order.shows_output:
        keep_output(folder)
    note_files(folder)


def _identify(stream: BinaryIO) -> tuple[int, int] | None:
    """Return which open file the stream is; None where it is none any more."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _exit_status_of(error: BaseException) -> int:
    """Return the status with which a process of Python ends by this error."""
    code = error.code if isinstance(error, SystemExit) else 1
    return code if isinstance(code, int) else int(code is not None)


def _run_task(task: Task[Any], place: Place | None, emit: Emitter) -> None:
    import torch  # noqa: PLC0415 - a forked worker has it already

    if torch.version.cuda and torch._C._cuda_isInBadFork():  # type: ignore[attr-defined]  # noqa: SLF001
        raise _UnforkableError
    script = task.workload.script if isinstance(task, WorkloadTask) else None
    if isinstance(task, WorkloadTask) and place is not None:
        from advisor.engine.worker.nodes import run_on_nodes  # noqa: PLC0415 - as below

        run_on_nodes(task, place, emit)
    elif isinstance(task, WorkloadTask) and script is not None and script.launch:
        from advisor.engine.worker.ranks import run_on_ranks  # noqa: PLC0415 - several ranks alone

        run_on_ranks(task, emit)
    else:
        run_measure(task, emit)


def run_measure(task: Task[Any], emit: "Emitter") -> None:
    """Import what measures for the task, and run it in this process."""
    if isinstance(task, WorkloadTask):
        if task.workload.checkout is not None:
            enter_checkout(task.workload.checkout)
        seed_everything(task.workload.seed)
    runs = task.runs
    if isinstance(task, WorkloadTask) and task.workload.script is not None:
        runs = task.runs_script or task.runs
    module, _, function = runs.partition(":")
    getattr(importlib.import_module(module), function)(task, emit)


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's (where loaded) and torch's generators."""
    import torch  # noqa: PLC0415

    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    torch.manual_seed(seed)


class _UnforkableError(Exception):
    """A preloaded package initialised CUDA, which does not survive a fork."""


def failure_from(error: BaseException, task: Task[Any], replaced: Sequence[str] = ()) -> Failure:
    """Return what is told of an error: whose it is, where, and what to do about it."""
    if isinstance(error, _UnforkableError):
        return Failure(kind="unforkable", message="CUDA was initialised before the fork")
    if isinstance(error, AdvisorError):
        kind = kind_of(error)
        return Failure(
            kind=kind,
            message=_name_file(error.message, task)
            if kind in {"user", "sample"}
            else error.message,
            next_step=error.next_step,
            traceback=error.traceback or _user_traceback(error.__cause__),
        )
    from advisor.training.device_failure import explain_device_failure  # noqa: PLC0415 - has torch

    place = place_of(error)
    explained = explain_device_failure(error, is_users=location_of(error) is not None)
    if explained is not None:
        text = f"the GPU cannot be used: {explained[0]} ({describe(error)[:_DEVICE_TEXT_LENGTH]})"
        return Failure(kind="device", message=text, next_step=explained[1])
    is_users = place is not None or _user_frames(error.__traceback__) is not None
    where = location_of(error)
    if replaced and where is None and isinstance(task, WorkloadTask):
        return Failure(
            kind="user",
            message=f"{task.workload.target} replaces {', '.join(replaced)}, which this program "
            f"and torch need: {describe(error)}",
            next_step="Leave these as they are, and give what the file has of its own other names.",
        )
    if not is_users or not isinstance(task, WorkloadTask):
        text = "".join(_format(error))
        return Failure(kind="internal", message=describe(error), traceback=clean(text))
    what, next_step = place or ("", None)
    said = f"{where or task.workload.target}: {describe(error)}"
    return Failure(
        kind="user",
        message=f"{said}, in {what}" if what else said,
        next_step=next_step or f"Correct the {_name_kind(task)} there.",
        traceback=_user_traceback(error),
    )


def _name_kind(task: WorkloadTask[Any]) -> str:
    return "model file" if task.workload.script is None else "script"


def _name_file(message: str, task: Task[Any]) -> str:
    """Return the message with the user's file in front, unless it names a place already."""
    if not isinstance(task, WorkloadTask):
        return message
    file = task.workload.target
    return message if file.partition(":")[0] in message else f"{file}: {message}"


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


def _format(error: BaseException) -> Iterable[str]:
    try:
        return traceback.format_exception(type(error), error, error.__traceback__)
    except Exception:  # noqa: BLE001 - a broken __str__ is the user's
        return [*traceback.format_tb(error.__traceback__), describe(error)]


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
