"""One task on several ranks: launched as torchrun does, their results made one.

    worker --(torch's elastic agent)--> rank 0, rank 1, ...     forks, which have torch already
    rank: the script under the same observers --(a store)--> worker: merge, emit

The first rank decides when enough was seen. Whoever ends does so with an exit status that has the
agent end the others at once: in a collective they would wait for it.
"""

import faulthandler
import logging
import os
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from msgspec.structs import replace
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from advisor.engine.ends import WorkerDeathError, WorkerTimeoutError, describe_exit
from advisor.engine.task import WorkloadTask, find_function
from advisor.engine.wire import Done, Failure, Message, Place, Result, failure_of
from advisor.engine.worker.emitter import Emitter
from advisor.engine.worker.entry import run_measure
from advisor.engine.worker.failure import describe
from advisor.engine.worker.hanging import ASK, HangWatch, ProgressFile
from advisor.engine.worker.nodes import AllNodes, configure
from advisor.engine.worker.said import RankStore
from advisor.errors import UsageError
from advisor.training.data import Script
from advisor.training.script.word import Words

#: Exit status of a rank that ends them all.
_ENDS_ALL = 77
#: What the others get to send their results once one rank has its own, in seconds.
_GRACE_S = 1.0
#: A rank that the agent has asked to end has no clean-up worth waiting for.
_SHUTDOWN_S = 2
_PAUSE_S = 0.005
#: Where ranks of one machine meet their worker.
_OWN_HOST = "127.0.0.1"


class RankEmitter(Emitter):
    """Tells all what one rank sends; its end is that of all ranks."""

    def __init__(self, task: WorkloadTask[Any], said: RankStore) -> None:
        rank, self._ranks = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
        super().__init__(task, lambda message: said.say(rank, message), said.folder)
        self._said, self._progress = said, ProgressFile(said.progress(rank))
        self.words, self.goes_on = Words(said.store), rank > 0  # the first rank decides the end

    def note_steps(self, steps: int) -> None:
        """Tell how many steps were taken."""
        self._progress.note(steps)

    def leave(self) -> NoReturn:
        """Say that all was sent; the first rank then ends all of them."""
        self.say_done()
        while self.goes_on:
            time.sleep(_GRACE_S)
        self._end_all()

    def _end(self, message: Message) -> NoReturn:
        self.send(message)
        self._end_all()

    def _end_all(self) -> NoReturn:
        ends_s, ranks = time.monotonic() + _GRACE_S, range(self._ranks)
        while time.monotonic() < ends_s and not all(map(self._said.has_ended, ranks)):
            time.sleep(_PAUSE_S)
        os._exit(_ENDS_ALL)


def run_on_ranks(task: WorkloadTask[Any], place: Place | None, emit: Emitter) -> None:
    """Emit what all ranks together saw; on another node than the first, only run those there.

    Raises:
        UsageError: The ranks did not find each other.
    """
    script = task.workload.script
    assert script is not None
    with tempfile.TemporaryDirectory(prefix="ranks-", dir=emit.folder) as name:
        own = place or Place(node=0, host=_OWN_HOST, port=0, local_ranks=script.ranks)
        try:
            said = RankStore(Path(name), own.host, own.port, is_master=own.node == 0)
            own = replace(own, port=said.store.port)
            config = configure(script, own) if place else _read_config(script, task, said.folder)
            codes = _launch(task, script, own, said, config)
        except Exception as error:
            raise UsageError(
                f"the ranks could not be started: {describe(error)}",
                next_step="Look at --nproc-per-node and the rendezvous options; nodes need free "
                "ports among each other, as torch itself does.",
            ) from error
        if own.node == 0:
            _relay(task, emit, said, codes)


def _read_config(script: Script, task: WorkloadTask[Any], folder: Path) -> LaunchConfig:
    """Return what torchrun makes of its options."""
    options = [*script.launch, task.workload.target]
    arguments = run.parse_args(options)  # type: ignore[no-untyped-call]
    if arguments.standalone:
        arguments.rdzv_backend, arguments.rdzv_endpoint = "c10d", "localhost:0"
        arguments.rdzv_id = folder.name
    return run.config_from_args(arguments)[0]


def _launch(
    task: WorkloadTask[Any], script: Script, place: Place, said: RankStore, config: LaunchConfig
) -> dict[int, int]:
    """Run the ranks until all have ended; return how those did that ended by themselves."""
    for name in ("torch.distributed", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # ranks are meant to be ended
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(_SHUTDOWN_S)
    config.start_method = "fork"  # torch is there already, and no CUDA context
    config.max_restarts = 0
    own, codes = script.list_ranks(place.node) or range(script.ranks), dict[int, int]()
    with (
        HangWatch(task.workload.file, said, own) as watch,
        AllNodes(script, place, said, watch) as nodes,
    ):
        try:
            elastic_launch(config, run_rank)(task, said.folder, place)
        except ChildFailedError as error:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
    return nodes.exchange({} if nodes.was_stopped else codes)


def _relay(
    task: WorkloadTask[Any], emit: Emitter, store: RankStore, codes: Mapping[int, int]
) -> None:
    """Emit what all ranks have said.

    `codes` has the exit statuses of the ranks that ended by themselves.
    """
    said = {rank: store.hear(rank) for rank in range(task.workload.ranks)}
    # The first has ended the others; one that hung may be behind those that lost it.
    last = [said[rank][-1] for rank in store.list_failed()]
    hung = [each for each in last if getattr(each, "kind", "") == WorkerTimeoutError.__name__]
    first = next(iter(hung or last), None)
    is_done = any(isinstance(each, Done) for each in said[0])
    killed = [
        (rank, code)
        for rank, code in sorted(codes.items())
        # By a signal that the agent does not send, or by itself and without a word.
        if (code < 0 and code != -signal.SIGTERM)
        or (code != _ENDS_ALL and code >= 0 and not store.has_ended(rank))
    ]
    if killed and not is_done:  # what others say is that it went
        emit.send(_describe_death(*killed[0], task.workload.file))
    elif isinstance(first, Failure) and not is_done:
        emit.send(first)
    elif not any(isinstance(each, Done) for messages in said.values() for each in messages):
        rank, code = next(iter(codes.items()), (0, None))
        emit.send(_describe_death(rank, code, task.workload.file))
    else:
        for result in _merge(task, said):
            emit(result)


def run_rank(task: WorkloadTask[Any], folder: Path, place: Place) -> NoReturn:
    """Run the script as the rank that the environment names, and end the process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # a collective would not hear of it
    said = RankStore(folder, place.host, place.port)
    local_rank = place.local_rank + int(os.environ["LOCAL_RANK"])
    local_ranks = min(place.local_ranks, int(os.environ["WORLD_SIZE"]))
    os.environ.update(LOCAL_RANK=str(local_rank), LOCAL_WORLD_SIZE=str(local_ranks))
    if hasattr(faulthandler, "register"):
        stack = said.stack(int(os.environ["RANK"])).open("ab", buffering=0)
        faulthandler.register(ASK, stack, all_threads=False)
    emit = RankEmitter(task, said)
    try:
        run_measure(task, emit)
    except BaseException as error:  # noqa: BLE001 - SystemExit and all others are the user's
        emit.fail(error, tells_of_child=False)
    emit.leave()


def _merge(task: WorkloadTask[Any], said: Mapping[int, list[Message]]) -> list[Any]:
    decode = msgspec.json.Decoder(task.result_type()).decode
    results = {
        rank: [decode(each.body) for each in messages if isinstance(each, Result)]
        for rank, messages in said.items()
    }
    if not task.merges_ranks:
        return results[0]
    merged: list[Any] = find_function(task.merges_ranks)(results)
    return merged


def _describe_death(rank: int, code: int | None, target: str) -> Failure:
    return failure_of(
        WorkerDeathError(
            f"rank {rank} of {target} {describe_exit(code)}",
            code=code,
            next_step="Run the script under torchrun to see why.",
        )
    )
