"""One worker: read the order, run its task, stream the results, and say how it ended."""

import faulthandler
import gc
import importlib
import os
import signal
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from advisor.engine.crash import MUTE_STATUS
from advisor.engine.ends import UnforkableError
from advisor.engine.task import Task, WorkloadTask
from advisor.engine.wire import Done, Message, Order, Place
from advisor.engine.worker.emitter import Emitter
from advisor.engine.worker.failure import failure_from
from advisor.engine.worker.replaced import Originals
from advisor.engine.worker.witness import keep_output, note_files
from advisor.training.checkout import enter_checkout


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

    gc.freeze()  # what was imported is no garbage: a look at all of it takes a tenth of a second
    if torch.version.cuda and torch._C._cuda_isInBadFork():  # type: ignore[attr-defined]  # noqa: SLF001
        raise UnforkableError("CUDA was initialised before the fork")
    script = task.workload.script if isinstance(task, WorkloadTask) else None
    if isinstance(task, WorkloadTask) and place is not None:
        from advisor.engine.worker.nodes import run_on_nodes  # noqa: PLC0415 - as below

        run_on_nodes(task, place, emit)
    elif isinstance(task, WorkloadTask) and script is not None and script.launch:
        from advisor.engine.worker.ranks import run_on_ranks  # noqa: PLC0415 - several ranks alone

        run_on_ranks(task, emit)
    else:
        run_measure(task, emit)


def run_measure(task: Task[Any], emit: Emitter) -> None:
    """Import what measures for the task, and run it in this process."""
    if isinstance(task, WorkloadTask):
        if task.workload.checkout is not None:
            enter_checkout(task.workload.checkout)
        from advisor.training.model_file.order import seed_everything  # noqa: PLC0415 - has torch

        seed_everything(task.workload.seed)
    runs = task.runs
    if isinstance(task, WorkloadTask) and task.workload.script is not None:
        runs = task.runs_script or task.runs
    module, _, function = runs.partition(":")
    getattr(importlib.import_module(module), function)(task, emit)
