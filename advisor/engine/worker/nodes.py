"""One node's ranks of a task that several nodes run, and what its worker tells the others.

    worker of node 0: a store, as torchrun's agent has one, at which all ranks and workers meet
    other workers --(what their ranks sent, how they ended)--> worker of node 0: merge, emit
    rank 0 --(words)--> other workers --(a file)--> their ranks

Whoever sees a rank fail sets `stop`, and every worker ends its ranks.
"""

import contextlib
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from advisor.engine.task import WorkloadTask
from advisor.engine.wire import Message, Place
from advisor.engine.worker.emitter import Emitter
from advisor.engine.worker.failure import describe
from advisor.engine.worker.hanging import HangWatch
from advisor.engine.worker.ranks import (
    ends_all,
    has_ended,
    read_rank,
    relay_ranks,
    run_rank,
    watch_ranks,
)
from advisor.engine.worker.shared_words import SharedWords, connect, pass_words
from advisor.errors import UsageError
from advisor.training.data import Script
from advisor.training.script.word import WordFile

#: For the other nodes' workers to report in the end, in seconds.
_REPORT_S = 3.0
_PAUSE_S = 0.02


class _Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one node's ranks sent, and the exit statuses of those that ended by themselves.

    Attributes:
        has_failed_first: Before those of any other node.
    """

    said: dict[int, bytes]
    codes: dict[int, int]
    has_failed_first: bool


def run_on_nodes(task: WorkloadTask[Any], place: Place, emit: Emitter) -> None:
    """Run this node's ranks; on node 0 emit what all ranks together saw.

    Raises:
        UsageError: The nodes' workers do not find each other.
    """
    script = task.workload.script
    assert script is not None
    with tempfile.TemporaryDirectory(prefix="ranks-", dir=emit.folder) as name:
        folder = Path(name)
        ranks = _Ranks(task, script, place, folder)
        try:
            own = script.list_ranks(place.node)
            with watch_ranks(task, folder, own, are_all=False) as watch:
                store = _open_store(place)  # after the forks, which would hold its connections open
                if place.node == 0:
                    codes = _lead(ranks, script, store, watch)
                    relay_ranks(task, emit, folder, codes)
                else:
                    with contextlib.suppress(RuntimeError):  # the store went with node 0's worker
                        _follow(ranks, place, store, watch)
        finally:
            ranks.kill()


class _Ranks:
    """The ranks of this node, each a fork.

    Attributes:
        codes: Exit statuses of those that ended by themselves.
    """

    def __init__(self, task: WorkloadTask[Any], script: Script, place: Place, folder: Path) -> None:
        self.folder, self.codes = folder, dict[int, int]()
        self._own = script.list_ranks(place.node)
        self._running = {_fork(task, script, place, folder, rank): rank for rank in self._own}
        self._read: dict[int, tuple[int, list[Message]]] = {}

    def have_failed(self) -> bool:
        """Return whether one of them has ended, or lets no other go on."""
        self._note_ended()
        last = [messages[-1] for rank in self._own if (messages := self._hear(rank))]
        return bool(self.codes) or any(map(ends_all, last))

    def have_ended(self) -> bool:
        """Return whether all have said all."""
        return all(has_ended(self._hear(rank)) for rank in self._own)

    def report(self, store: TCPStore, key: str, *, has_failed_first: bool = False) -> None:
        """Have node 0 know all of them so far."""
        said = {rank: path.read_bytes() for rank in self._own if (path := self.path(rank)).exists()}
        report = _Report(said=said, codes=self.codes, has_failed_first=has_failed_first)
        store.set(key, msgspec.msgpack.encode(report))  # type: ignore[arg-type] # bytes do

    def path(self, rank: int) -> Path:
        """Return the file of what a rank sent, of this node or another."""
        return self.folder / f"{rank}.jsonl"

    def kill(self) -> None:
        """End those that are left; how the others ended is known then."""
        self._note_ended()  # another node may have heard of it first
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
        for pid in self._running:
            os.waitpid(pid, 0)
        self._running = {}

    def _note_ended(self) -> None:
        for pid, rank in [*self._running.items()]:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self.codes[rank] = os.waitstatus_to_exitcode(status)
                del self._running[pid]

    def _hear(self, rank: int) -> list[Message]:
        path = self.path(rank)
        size = path.stat().st_size if path.exists() else 0
        if self._read.get(rank, (0,))[0] != size:
            self._read[rank] = size, read_rank(self.folder, rank)
        return self._read[rank][1] if rank in self._read else []


def _lead(ranks: _Ranks, script: Script, store: TCPStore, watch: HangWatch) -> dict[int, int]:
    """Return how ranks ended, once all have; what those of other nodes sent is in files then."""
    nodes = [node for node in range(1, script.ranks) if script.list_ranks(node)]
    early, last = ({f"{name}/{node}" for node in nodes} for name in ("early", "last"))
    codes: dict[int, int] = {}

    def take(keys: set[str]) -> None:
        for key in [key for key in keys if store.check([key])]:
            keys.remove(key)
            report = msgspec.msgpack.decode(store.get(key), type=_Report)
            codes.update(report.codes)
            _write(ranks, report)

    while not (has_failed := ranks.have_failed()) and not store.check(["stop"]):
        take(early)
        if watch.waits and store.check([f"waits/{node}" for node in nodes]):
            told = [store.get(f"waits/{node}").decode() for node in nodes]
            if all(told):
                watch.end_deadlock(", ".join((watch.waits, *told)))
        time.sleep(_PAUSE_S)
    if has_failed:
        store.add("failed", 1)
    take(early)
    store.set("stop", "")
    ranks.kill()
    ends_s = time.monotonic() + _REPORT_S
    while last and time.monotonic() < ends_s:
        take(last)
        time.sleep(_PAUSE_S)
    return {**ranks.codes, **codes}


def _write(ranks: _Ranks, report: _Report) -> None:
    """Have the files of another node's ranks here."""
    for rank, said in report.said.items():
        path = ranks.path(rank)
        if not path.exists() or path.read_bytes() != said:
            path.write_bytes(said)
        if report.has_failed_first:
            os.utime(path, ns=(rank, rank))  # clocks differ: the store knows who was first


def _follow(ranks: _Ranks, place: Place, store: TCPStore, watch: HangWatch) -> None:
    """Report to node 0 until all are to end."""
    words = WordFile(ranks.folder / "word")
    threading.Thread(target=pass_words, args=(place, words), daemon=True).start()
    has_told, waits = False, ""
    while not store.check(["stop"]):
        if ranks.have_failed():
            is_first = store.add("failed", 1) == 1
            ranks.report(store, f"early/{place.node}", has_failed_first=is_first)
            store.set("stop", "")
            break
        if not has_told and ranks.have_ended():
            ranks.report(store, f"early/{place.node}")
            has_told = True
        if waits != watch.waits:
            waits = watch.waits
            store.set(f"waits/{place.node}", waits)
        time.sleep(_PAUSE_S)
    ranks.kill()
    ranks.report(store, f"last/{place.node}")


def _open_store(place: Place) -> TCPStore:
    try:
        return connect(place, is_master=place.node == 0)
    except RuntimeError as error:
        raise UsageError(
            f"the ranks could not be started: {place.host}:{place.port}, where they meet, cannot "
            f"be reached: {describe(error)}",
            next_step="The nodes need free ports among each other, as torch itself does.",
        ) from error


def _fork(task: WorkloadTask[Any], script: Script, place: Place, folder: Path, rank: int) -> int:
    """Return the process of a new rank."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.environ.update(_make_environment(script, place, rank))
        path = folder / "word"
        run_rank(task, folder, WordFile(path) if rank else SharedWords(path, place))
    finally:
        os._exit(1)


def _make_environment(script: Script, place: Place, rank: int) -> dict[str, str]:
    """Return what torchrun tells a rank."""
    local_rank = place.local_rank + rank - script.list_ranks(place.node).start
    nodes = -(-script.ranks // script.per_node)
    numbers = {
        **dict.fromkeys(("RANK", "ROLE_RANK"), rank),
        **dict.fromkeys(("WORLD_SIZE", "ROLE_WORLD_SIZE"), script.ranks),
        "LOCAL_RANK": local_rank,
        "LOCAL_WORLD_SIZE": min(place.local_ranks, script.ranks),
        "GROUP_RANK": place.node,
        "GROUP_WORLD_SIZE": nodes,
        "MASTER_PORT": place.port,
        "TORCHELASTIC_RESTART_COUNT": 0,
        "TORCHELASTIC_MAX_RESTARTS": 0,
    }
    return {
        "ROLE_NAME": "default",
        "MASTER_ADDR": place.host,
        "TORCHELASTIC_RUN_ID": str(place.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        **{name: str(number) for name, number in numbers.items()},
    }
