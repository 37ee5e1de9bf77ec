"""Finds a rank that hangs: no step, no work and no wait for the others, for longer than is like it.

A rank that waits for another one is idle as well: where it stands tells the two apart. What works
between steps, as an evaluation or a checkpoint, takes processor time or moves bytes. Before a rank
has taken two steps nothing is known of how long it takes, and only the time-out ends it.
"""

import contextlib
import os
import re
import signal
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import psutil

from advisor.engine.ends import PACKAGE, WorkerTimeoutError, find_location
from advisor.engine.wire import failure_of
from advisor.engine.worker.said import RankStore

#: A rank that takes part in steps may do nothing for so long, or for so many times the longest
#: time that passed between two of its steps.
_FLOOR_S, _GAPS = 5.0, 10.0
_PAUSE_S = 0.25
#: Asks a rank where it stands; one that no script uses, as Lightning uses SIGUSR1 under Slurm.
ASK = getattr(signal, "SIGRTMAX", signal.SIGUSR1)
#: For a rank to write down where it stands.
_STAND_S = 0.2
#: Share of one processor below which a process is idle.
_IDLE_FRACTION = 0.05
_LEAST_STEPS = 2
_FORMAT = struct.Struct("<qq")
_FRAME = re.compile(r'File "(.+)", line \d+ in ')
#: In torch's own code that waits for other ranks; the second runs a backward pass.
_WAITS = ("/torch/distributed/", "/torch/autograd/graph.py", "/torch/nn/parallel/")


class ProgressFile:
    """Tells this rank's process and its steps, at one write each."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self.note(0)

    def note(self, steps: int) -> None:
        """Tell how many steps were taken."""
        os.pwrite(self._file, _FORMAT.pack(os.getpid(), steps), 0)


class Idleness:
    """Since when a rank has done nothing, of samples of what it did.

    `work`: the processor seconds that its process took so far, and the bytes that it moved.
    """

    def __init__(self, pid: int, now_s: float) -> None:
        self.pid, self.steps, self.work = pid, 0, (0.0, 0)
        self._worked_s = self._stepped_s = now_s
        self._longest_s = 0.0

    def see(
        self, steps: int, work: tuple[float, int], now_s: float, *, is_running: bool = False
    ) -> bool:
        """Take in its steps and work so far; return whether it rests for longer than is like it."""
        if steps != self.steps:
            if self.steps:
                self._longest_s = max(self._longest_s, now_s - self._stepped_s)
            self.steps, self._stepped_s, is_running = steps, now_s, True
        most_s = self.work[0] + _IDLE_FRACTION * self.idle_s(now_s)
        if is_running or work[0] > most_s or work[1] != self.work[1]:
            self.work, self._worked_s = work, now_s
        is_long = self.idle_s(now_s) > max(_FLOOR_S, _GAPS * self._longest_s)
        return is_long and steps >= _LEAST_STEPS

    def idle_s(self, now_s: float) -> float:
        """Return for how long it did nothing."""
        return now_s - self._worked_s


class Watch(ABC):
    """A context beside which a thread runs; it has ended when the context is left."""

    def __init__(self) -> None:
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    @abstractmethod
    def _run(self) -> None:
        """Look on until `_is_over`."""


class HangWatch(Watch):
    """A context in which a rank of this machine that hangs fails and is ended, from a thread.

    Args:
        target: The script.
        said: By all ranks.
        ranks: Those of this machine.

    Attributes:
        waits: Where each of its ranks waits for others, once all do; else empty.
    """

    def __init__(self, target: str, said: RankStore, ranks: Iterable[int]) -> None:
        self._target, self._said, self._ranks = target, said, [*ranks]
        self._idle: dict[int, Idleness] = {}
        self._waiting: dict[int, str] = {}
        self.waits = ""
        super().__init__()

    def _run(self) -> None:
        while not self._is_over.wait(_PAUSE_S):
            for rank in self._ranks:
                with contextlib.suppress(psutil.Error, OSError, RuntimeError):  # it has ended
                    if self._look(rank):
                        return
            do_all_wait = len(self._waiting) == len(self._ranks)
            told = (f"rank {rank} at {where}" for rank, where in sorted(self._waiting.items()))
            self.waits = ", ".join(told) if do_all_wait else ""

    def _look(self, rank: int) -> bool:
        """Return whether a rank hangs, which is ended then."""
        path, now_s = self._said.progress(rank), time.monotonic()
        noted = path.read_bytes() if path.exists() else b""
        # It has not begun, or waits for none.
        if len(noted) < _FORMAT.size or self._said.has_ended(rank):
            self._waiting.pop(rank, None)
            return False
        pid, steps = _FORMAT.unpack(noted)
        idle = self._idle.setdefault(rank, Idleness(pid, now_s))
        process = psutil.Process(pid)
        is_running = process.status() in {psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP}
        if not idle.see(steps, _see_work(process), now_s, is_running=is_running):
            self._waiting.pop(rank, None)
        elif rank not in self._waiting:
            stack = self._ask(rank, pid)
            idle.work = _see_work(process)  # else ranks that wait take turns in seeming to
            where = find_location(self._said.stack(rank)) or "a place that it does not tell"
            if not waits_for_others(stack):
                self._end(rank, pid, f"it did nothing for {idle.idle_s(now_s):.0f} s at {where}")
                return True
            self._waiting[rank] = where
        return False

    def end_deadlock(self, waits: str) -> None:
        """End one of these ranks, since all there are wait, as told, for nobody."""
        first = min(self._ranks, key=lambda each: (self._idle[each].steps, each))
        self._end(first, self._idle[first].pid, f"all ranks wait for each other: {waits}")

    def _ask(self, rank: int, pid: int) -> str:
        """Return where a rank stands, innermost first; empty where it does not answer."""
        path = self._said.stack(rank)
        path.write_bytes(b"")
        os.kill(pid, ASK)
        time.sleep(_STAND_S)
        return path.read_text(errors="replace")

    def _end(self, rank: int, pid: int, why: str) -> None:
        """Have the rank fail of that; what launched them ends the others."""
        error = WorkerTimeoutError(
            f"rank {rank} of {self._target} hangs: {why}",
            next_step="Look for a lock, an endless wait, or a collective that not all ranks join.",
        )
        self._said.say(rank, failure_of(error))
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            for number in (signal.SIGTERM, signal.SIGCONT):  # the second where it was stopped
                os.kill(pid, number)


def waits_for_others(stack: str) -> bool:
    """Return whether a rank stands in torch's code that waits for other ranks, or in ours."""
    for path in _FRAME.findall(stack):
        if path.startswith(PACKAGE) or any(part in path for part in _WAITS):
            return True
        if "/torch/" not in path:
            return False
    return False


def _see_work(process: psutil.Process) -> tuple[float, int]:
    """Return the processor seconds of a rank and its children so far, and the bytes moved."""
    seconds, moved = 0.0, 0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            seconds += sum(each.cpu_times()[:2])
            if hasattr(each, "io_counters"):  # not on every system
                counters = each.io_counters()
                moved += counters.read_chars + counters.write_chars
    return seconds, moved
