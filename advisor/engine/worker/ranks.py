"""One task on several ranks: launched as torchrun does, their results made one.

    worker --(torch's elastic agent)--> rank 0, rank 1, ...     forks, which have torch already
    rank: the script under the same observers --(a file each)--> worker: merge, emit

The first rank decides when enough was seen. Whoever ends does so with an exit status that has the
agent end the others at once: in a collective they would wait for it.
"""

import faulthandler
import importlib
import logging
import os
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from advisor.engine.crash import describe_exit
from advisor.engine.task import WorkloadTask
from advisor.engine.wire import Done, Failure, Message, Result
from advisor.engine.worker.emitter import Emitter
from advisor.engine.worker.entry import run_measure
from advisor.engine.worker.failure import describe, failure_from
from advisor.engine.worker.hanging import ASK, HangWatch, ProgressFile, name_stack
from advisor.engine.worker.replaced import Originals
from advisor.errors import UsageError
from advisor.training.script.word import WordFile

#: Exit status of a rank that ends them all.
_ENDS_ALL = 77
#: What the others get to send their results once one rank has its own, in seconds.
_GRACE_S = 1.0
#: A rank that the agent has asked to end has no clean-up worth waiting for.
_SHUTDOWN_S = 2
_PAUSE_S = 0.005


class RankEmitter(Emitter):
    """Writes what one rank sends into a file of its own."""

    def __init__(
        self, task: WorkloadTask[Any], folder: Path, rank: int, ranks: int, words: WordFile
    ) -> None:
        self._file = (folder / f"{rank}.jsonl").open("ab", buffering=0)
        super().__init__(task, self._write_line, self._write_line, Originals(), folder)
        self._ranks, self._progress = ranks, ProgressFile(folder, rank)
        self.words, self.goes_on = words, rank > 0  # the first rank decides the end

    def leave(self) -> NoReturn:
        """Say that all was sent; the first rank then ends all of them."""
        self.say_done()
        if self.goes_on:
            while True:
                time.sleep(_GRACE_S)
        self._end_all()

    def stop(self) -> NoReturn:
        """Say that all was sent, and end all ranks."""
        self._write_line(Done(is_early=True))
        self._end_all()

    def fail(self, error: BaseException) -> NoReturn:
        """Say what went wrong, and end all ranks."""
        self._write_line(failure_from(error, self._task))
        self._end_all()

    def say_done(self) -> None:
        """Say that all was sent."""
        self._write_line(Done())

    def note_steps(self, steps: int) -> None:
        """Tell how many steps were taken."""
        self._progress.note(steps)

    def _end_all(self) -> NoReturn:
        ends_s, ranks = time.monotonic() + _GRACE_S, range(self._ranks)
        while time.monotonic() < ends_s:
            if all(has_ended(read_rank(self.folder, rank)) for rank in ranks):
                break
            time.sleep(_PAUSE_S)
        os._exit(_ENDS_ALL)

    def _write_line(self, message: Message) -> None:
        self._file.write(msgspec.json.encode(message) + b"\n")


def run_on_ranks(task: WorkloadTask[Any], emit: Emitter) -> None:
    """Emit what all ranks together saw; UsageError where the ranks did not find each other."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415

    script = task.workload.script
    assert script is not None
    with tempfile.TemporaryDirectory(prefix="ranks-", dir=emit.folder) as name:
        folder = Path(name)
        codes: dict[int, int] = {}
        try:
            with watch_ranks(task, folder, range(script.ranks), are_all=not script.per_node):
                _launch(script.launch, task, folder)
        except ChildFailedError as error:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        except Exception as error:
            raise UsageError(
                f"the ranks could not be started: {describe(error)}",
                next_step="Look at --nproc-per-node and the rendezvous options.",
            ) from error
        relay_ranks(task, emit, folder, codes)


def watch_ranks(task: WorkloadTask[Any], folder: Path, ranks: range, *, are_all: bool) -> HangWatch:
    """Return a context in which a rank of this machine that hangs is ended."""
    return HangWatch(
        task.workload.target,
        folder,
        ranks,
        lambda rank: has_ended(read_rank(folder, rank)),
        are_all=are_all,
    )


def relay_ranks(
    task: WorkloadTask[Any], emit: Emitter, folder: Path, codes: Mapping[int, int]
) -> None:
    """Emit what the files of all ranks say.

    `codes` has the exit statuses of the ranks that ended by themselves.
    """
    said = {rank: read_rank(folder, rank) for rank in range(task.workload.ranks)}
    ends = {
        # The first has ended the others; one that hung may be behind those that lost it.
        (not _is_hang(messages[-1]), (folder / f"{rank}.jsonl").stat().st_mtime_ns): messages[-1]
        for rank, messages in said.items()
        if messages and ends_all(messages[-1])
    }
    first = ends[min(ends)] if ends else None
    is_done = any(isinstance(each, Done) for each in said[0])
    killed = [
        (rank, code)
        for rank, code in sorted(codes.items())
        if _is_death(code) or (code != _ENDS_ALL and code >= 0 and not has_ended(said[rank]))
    ]
    if killed and not is_done:  # what others say is that it went
        emit.relay(_describe_death(*killed[0], task.workload.target))
    elif isinstance(first, Failure) and not is_done:
        emit.relay(first)
    elif not any(isinstance(each, Done) for messages in said.values() for each in messages):
        rank, code = next(iter(codes.items()), (0, None))
        emit.relay(_describe_death(rank, code, task.workload.target))
    else:
        for result in _merge(task, said):
            emit(result)


def _launch(options: tuple[str, ...], task: WorkloadTask[Any], folder: Path) -> None:
    """Run the ranks until they have ended."""
    from torch.distributed import run  # noqa: PLC0415 - only scripts on several ranks need it
    from torch.distributed.launcher.api import elastic_launch  # noqa: PLC0415

    for name in ("torch.distributed", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # ranks are meant to be ended
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(_SHUTDOWN_S)
    arguments = run.parse_args([*options, task.workload.target])  # type: ignore[no-untyped-call]
    if arguments.standalone:
        arguments.rdzv_backend, arguments.rdzv_endpoint = "c10d", "localhost:0"
        arguments.rdzv_id = folder.name
    config, _, _ = run.config_from_args(arguments)
    config.start_method = "fork"  # torch is there already, and no CUDA context
    config.max_restarts = 0
    elastic_launch(config, _run_rank)(task, str(folder))


def _run_rank(task: WorkloadTask[Any], folder: str) -> None:
    run_rank(task, Path(folder), WordFile(Path(folder) / "word"))


def run_rank(task: WorkloadTask[Any], folder: Path, words: WordFile) -> NoReturn:
    """Run the script as the rank that the environment names, and end the process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # a collective would not hear of it
    rank, ranks = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    if hasattr(faulthandler, "register"):
        stack = name_stack(folder, rank).open("ab", buffering=0)
        faulthandler.register(ASK, stack, all_threads=False)
    emit = RankEmitter(task, folder, rank, ranks, words)
    try:
        run_measure(task, emit)
    except BaseException as error:  # noqa: BLE001 - SystemExit and all others are the user's
        emit.fail(error)
    emit.leave()


def read_rank(folder: Path, rank: int) -> list[Message]:
    """Return what a rank has said so far."""
    path = folder / f"{rank}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    decode = msgspec.json.Decoder(Message).decode
    return [decode(line) for line in lines if line.endswith(b"\n")]


def has_ended(messages: list[Message]) -> bool:
    """Return whether all was said, or why not."""
    return any(isinstance(each, Done | Failure) for each in messages)


def _merge(task: WorkloadTask[Any], said: Mapping[int, list[Message]]) -> list[Any]:
    """Return the results of all ranks as one rank's."""
    kind = task.result_type()
    results = {
        rank: [
            msgspec.json.decode(each.body, type=kind)
            for each in messages
            if isinstance(each, Result)
        ]
        for rank, messages in said.items()
    }
    if not task.merges_ranks:
        return results[0]
    module, _, function = task.merges_ranks.partition(":")
    merged: list[Any] = getattr(importlib.import_module(module), function)(results)
    return merged


def ends_all(message: Message) -> bool:
    """Return whether a rank that says so can have no other go on."""
    return isinstance(message, Failure) or (isinstance(message, Done) and message.is_early)


def _is_hang(message: Message) -> bool:
    return isinstance(message, Failure) and message.kind == "hang"


def _is_death(code: int) -> bool:
    """Return whether a rank was ended by a signal that the agent does not send."""
    return code < 0 and code != -signal.SIGTERM


def _describe_death(rank: int, code: int | None, target: str) -> Failure:
    """Return how a rank ended without a word."""
    return Failure(
        kind="death",
        message=f"rank {rank} of {target} {describe_exit(code)}",
        next_step="Run the script under torchrun to see why.",
        code=code,
    )
