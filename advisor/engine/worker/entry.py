"""One worker: read the order, run its task, stream the results, and say how it ended."""

import faulthandler
import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import msgspec
import torch

from advisor.engine.ends import UnforkableError
from advisor.engine.task import Task, WorkloadTask, find_function
from advisor.engine.wire import Order, Place
from advisor.engine.witness import keep_output, note_files
from advisor.engine.worker.emitter import Emitter, open_channel
from advisor.training.checkout import enter_checkout
from advisor.training.model_file.order import seed_everything


def main() -> None:
    """Run a worker started afresh: the order on stdin, the messages on what was stdout."""
    incoming, outgoing = os.dup(0), os.dup(1)  # away from the user's
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    run_worker(os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb"))


def run_worker(orders: BinaryIO, messages: BinaryIO) -> NoReturn:
    """Run the one order in `orders`; every way it can end in Python is a message."""
    order = msgspec.json.decode(orders.readline(), type=Order)
    task = order.decode_task()
    emit = Emitter(task, open_channel(messages), Path(order.crash_path).parent)
    crash_file = open(order.crash_path, "ab", buffering=0)  # noqa: PTH123, SIM115 - kept open
    faulthandler.enable(crash_file, all_threads=False)
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, crash_file, all_threads=False)
    try:
        if task.script is not None:
            if not order.shows_output:
                keep_output(emit.folder)
            _watch_saving(note_files(emit.folder))
        _run_task(task, order.place, emit)
        emit.leave()  # after a failure that was relayed it is not heard any more
    except BaseException as error:  # noqa: BLE001 - SystemExit and all others are the user's
        emit.fail(error, tells_of_child=False)


def _watch_saving(note: Callable[[Any], None]) -> None:
    original = torch.save

    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
        note(f)
        return original(obj, f, *args, **kwargs)

    torch.save = torch.serialization.save = save


def _run_task(task: Task[Any], place: Place | None, emit: Emitter) -> None:
    gc.freeze()  # what was imported is no garbage: a look at all of it takes a tenth of a second
    if torch.version.cuda and torch._C._cuda_isInBadFork():  # type: ignore[attr-defined]  # noqa: SLF001
        raise UnforkableError("CUDA was initialised before the fork")
    if isinstance(task, WorkloadTask) and task.script and (place or task.script.launch):
        from advisor.engine.worker.ranks import run_on_ranks  # noqa: PLC0415 - several ranks alone

        run_on_ranks(task, place, emit)
    else:
        run_measure(task, emit)


def run_measure(task: Task[Any], emit: Emitter) -> None:
    """Import what measures for the task, and run it in this process."""
    runs = task.runs
    if isinstance(task, WorkloadTask):
        if task.workload.checkout is not None:
            enter_checkout(task.workload.checkout)
        seed_everything(task.workload.seed)
        runs = (task.script and task.runs_script) or runs
    find_function(runs)(task, emit)
