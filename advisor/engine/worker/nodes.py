"""One node's ranks of a task that several nodes run, and what its worker tells the others.

    worker of node 0: a store, as torchrun's agent has one, at which all ranks and workers meet
    other workers --(what their ranks sent, how they ended)--> worker of node 0: merge, emit
    rank 0 --(words)--> other workers --(a file)--> their ranks

Whoever sees a rank fail sets `stop`, and every worker ends its ranks.
"""

import contextlib
import itertools
import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from advisor.engine.task import WorkloadTask
from advisor.engine.wire import Place
from advisor.engine.worker.failure import describe
from advisor.engine.worker.hanging import HangWatch
from advisor.engine.worker.ranks import run_rank
from advisor.engine.worker.said import RankFiles
from advisor.errors import UsageError
from advisor.training.data import Script
from advisor.training.script.word import WordFile

#: For all to reach the store, and for the other nodes' workers to report in the end, in seconds.
_MEET_S, _REPORT_S = 30.0, 3.0
_PAUSE_S = 0.02
#: What others may be behind by, before a word is forgotten.
_KEPT_WORDS = 10_000


class _Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one node's ranks sent, and the exit statuses of those that ended by themselves.

    `has_failed_first`: before those of any other node.
    """

    said: dict[int, bytes]
    codes: dict[int, int]
    has_failed_first: bool


def run_on_node(
    task: WorkloadTask[Any], script: Script, place: Place, files: RankFiles
) -> dict[int, int] | None:
    """Run this node's ranks; on node 0 return the codes of all that ended, whose files are there.

    Raises:
        UsageError: The nodes' workers do not find each other.
    """
    ranks = _Ranks(task, script, place, files)
    try:
        own = script.list_ranks(place.node)
        with HangWatch(task.workload.target, files, own, are_all=False) as watch:
            store = _open_store(place)  # after the forks, which would hold its connections open
            if place.node == 0:
                return _lead(ranks, script, store, watch)
            with contextlib.suppress(RuntimeError):  # the store went with node 0's worker
                _follow(ranks, place, store, watch)
    finally:
        ranks.kill()
    return None


class _Ranks:
    """The ranks of this node, each a fork.

    Attributes:
        codes: Exit statuses of those that ended by themselves.
    """

    def __init__(
        self, task: WorkloadTask[Any], script: Script, place: Place, files: RankFiles
    ) -> None:
        self.files, self.codes = files, dict[int, int]()
        self._own = script.list_ranks(place.node)
        self._running = {_fork(task, script, place, files, rank): rank for rank in self._own}

    def have_failed(self) -> bool:
        self._note_ended()
        return bool(self.codes) or any(map(self.files.has_failed, self._own))

    def have_ended(self) -> bool:
        return all(map(self.files.has_ended, self._own))

    def report(self, store: TCPStore, key: str, *, has_failed_first: bool = False) -> None:
        """Have node 0 know all of them so far."""
        paths = {rank: self.files.said(rank) for rank in self._own}
        said = {rank: path.read_bytes() for rank, path in paths.items() if path.exists()}
        report = _Report(said=said, codes=self.codes, has_failed_first=has_failed_first)
        store.set(key, msgspec.msgpack.encode(report))  # type: ignore[arg-type] # bytes do

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
            _write(ranks.files, report)

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


def _write(files: RankFiles, report: _Report) -> None:
    """Have the files of another node's ranks here."""
    for rank, said in report.said.items():
        path = files.said(rank)
        if not path.exists() or path.read_bytes() != said:
            path.write_bytes(said)
        if report.has_failed_first:
            os.utime(path, ns=(rank, rank))  # clocks differ: the store knows who was first


def _follow(ranks: _Ranks, place: Place, store: TCPStore, watch: HangWatch) -> None:
    words = WordFile(ranks.files.word)
    threading.Thread(target=_pass_words, args=(place, words), daemon=True).start()
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


class _SharedWords(WordFile):
    """Passes the words of the first rank to all nodes, through the store."""

    def __init__(self, path: Path, place: Place) -> None:
        super().__init__(path)
        self._place, self._said = place, 0
        self._store: TCPStore | None = None

    def write(self, said: bytes) -> None:
        """Write down what was said, here and on the other nodes."""
        super().write(said)
        if self._store is None:
            self._store = _connect(self._place)
        self._store.set(f"word/{self._said}", said)  # type: ignore[arg-type] # bytes do
        if self._said >= _KEPT_WORDS:
            self._store.delete_key(f"word/{self._said - _KEPT_WORDS}")
        self._said += 1


def _pass_words(place: Place, words: WordFile) -> None:
    """Write down on this node what the first rank says."""
    with contextlib.suppress(RuntimeError):  # its end
        store = _connect(place)
        store.set_timeout(timedelta(days=1))
        for number in itertools.count():
            words.write(store.get(f"word/{number}"))


def _open_store(place: Place) -> TCPStore:
    try:
        return _connect(place, is_master=place.node == 0)
    except RuntimeError as error:
        raise UsageError(
            f"the ranks could not be started: {place.host}:{place.port}, where they meet, cannot "
            f"be reached: {describe(error)}",
            next_step="The nodes need free ports among each other, as torch itself does.",
        ) from error


def _connect(place: Place, *, is_master: bool = False) -> TCPStore:
    """Return the store of a task, which is in this process where it is the master."""
    meet = timedelta(seconds=_MEET_S)
    return TCPStore(
        place.host, place.port, is_master=is_master, timeout=meet, wait_for_workers=False
    )


def _fork(
    task: WorkloadTask[Any], script: Script, place: Place, files: RankFiles, rank: int
) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.environ.update(_make_environment(script, place, rank))
        run_rank(task, files, WordFile(files.word) if rank else _SharedWords(files.word, place))
    finally:
        os._exit(1)


def _make_environment(script: Script, place: Place, rank: int) -> dict[str, str]:
    """Return what torchrun tells a rank."""
    told = {
        **dict.fromkeys(("RANK", "ROLE_RANK"), rank),
        **dict.fromkeys(("WORLD_SIZE", "ROLE_WORLD_SIZE"), script.ranks),
        "LOCAL_RANK": place.local_rank + rank - script.list_ranks(place.node).start,
        "LOCAL_WORLD_SIZE": min(place.local_ranks, script.ranks),
        "GROUP_RANK": place.node,
        "GROUP_WORLD_SIZE": -(-script.ranks // script.per_node),
        "ROLE_NAME": "default",
        "MASTER_ADDR": place.host,
        "MASTER_PORT": place.port,
        "TORCHELASTIC_RUN_ID": place.port,
        "TORCHELASTIC_USE_AGENT_STORE": True,
        "TORCHELASTIC_RESTART_COUNT": 0,
        "TORCHELASTIC_MAX_RESTARTS": 0,
    }
    return {name: str(value) for name, value in told.items()}
