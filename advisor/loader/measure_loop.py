"""Steps of the user's loop at several sizes, in turns: what a batch costs beside another.

round:  loop at size 1 | loop at size 2 | ...        in one process, each with a loader of its own
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from advisor.engine.worker.emitter import Emit
from advisor.engine.worker.failure import describe
from advisor.loader.data import LoopTask, LoopTiming
from advisor.loader.measure_windows import WARMUP_STEPS, Bench, Lane, Units
from advisor.memory.measure import MESSAGE_LENGTH
from advisor.statistics import median

#: Rounds of windows; fewer where a batch takes long.
_MOST_ROUNDS, _LEAST_ROUNDS = 10, 3
#: Batches that are fetched for their time.
_FETCHES = 3
#: Loading processes of all sizes together: those of the other sizes wait with their batches ready.
_MOST_PROCESSES = 16


def run(task: LoopTask, emit: Emit[LoopTiming]) -> None:
    """Emit one LoopTiming."""
    size = task.micro_batch_sizes[0]
    with warnings.catch_warnings():
        # More workers than processors are meant here: most of them wait.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        deadline_s = time.perf_counter() + task.budget_s
        bench = Bench(task.workload, size)
        workers = 0 if task.is_in_memory else bench.workload.data.own_workers
        sizes = _choose_sizes(task, bench, workers)
        lanes, message = [_LoopLane(bench, size, workers) for size in sizes], None
        if not lanes:
            message = f"one batch takes {bench.load_s:.3g} s, too long for the time there is"
        for lane in lanes[:]:
            try:
                lane.begin(is_in_memory=task.is_in_memory)
            except Exception as error:  # noqa: BLE001 - of the loader at this size, told as it is
                message = describe(error)[:MESSAGE_LENGTH]
                lanes.remove(lane)
        rounds = 0
        try:
            while rounds < _LEAST_ROUNDS or (
                rounds < _MOST_ROUNDS and time.perf_counter() < deadline_s
            ):
                for lane in lanes:
                    lane.time_round()
                rounds += 1
        except Exception as error:  # noqa: BLE001 - of the loader or its workers, told as it is
            message = describe(error)[:MESSAGE_LENGTH]
        finally:
            for lane in lanes:
                lane.feed = None  # ends the workers
        emit(
            LoopTiming(
                workers=workers,
                is_in_memory=task.is_in_memory,
                micro_batch_sizes=tuple(lane.size for lane in lanes),
                step_s=tuple(tuple(lane.step_s[:rounds]) for lane in lanes),
                pass_s=tuple(lane.pass_s for lane in lanes),
                fetch_s=_time_fetching(bench, size),
                message=message,
            )
        )


def _time_fetching(bench: Bench, size: int) -> float:
    """Return the seconds of a batch as trials take it."""
    indices = range(min(size, bench.workload.batches.size or size))
    bench.workload.batches.keep_samples()
    seconds = []
    for _ in range(_FETCHES):
        started_s = time.perf_counter()
        bench.workload.gather(indices)
        seconds.append(time.perf_counter() - started_s)
    return min(seconds)


def _choose_sizes(task: LoopTask, bench: Bench, workers: int) -> Sequence[int]:
    """Return the first sizes whose rounds the time allows, with the processes that they need."""
    chosen: list[int] = []
    left_s, most = task.budget_s, _MOST_PROCESSES // max(1, workers)
    for size in task.micro_batch_sizes[: max(2, most)]:
        steps = WARMUP_STEPS + max(1, workers) * (1 + 2 * _LEAST_ROUNDS)
        left_s -= steps * bench.sample_s * size
        if left_s > 0.0:
            chosen.append(size)
    return chosen


class _LoopLane(Lane):
    """A size, and the seconds of its steps by round."""

    def __init__(self, bench: Bench, size: int, workers: int) -> None:
        super().__init__(bench, size, workers)
        self.step_s: list[float] = []
        self._firsts_s: list[float] = []

    def begin(self, *, is_in_memory: bool) -> None:
        """Start what gives the batches, and warm the step up at this size."""
        loader: Any = None
        if is_in_memory:
            rows = self._bench.workload.rows
            batch = None if rows else self._bench.read_batch(self.size)
            loader = _InMemory(self.size, rows, batch)
        self.start(loader)
        assert self.feed is not None
        warm_up = Units(untimed=WARMUP_STEPS, device=self._bench.device)
        self._bench.train(self.size, self.feed, warm_up)

    def time_round(self) -> None:
        """Add a window, after what workers had ready."""
        self.skip(self.filled)
        units = self.time_together()
        self.step_s.append(units.batch_s())
        self._firsts_s += units.first_s

    @property
    def pass_s(self) -> float:
        """What a pass over the dataset costs beside its batches."""
        if self._firsts_s:
            return max(0.0, median(self._firsts_s) - median(self.step_s))
        begun_s = [start_s - self._bench.load_s for start_s in self.starts_s]
        return max(0.0, median(begun_s)) if begun_s else 0.0


class _InMemory:
    """Batches that are in memory: cut from the tensors, in a new order for each pass.

    Where the dataset has no tensors it is one batch again and again.
    """

    num_workers, prefetch_factor, persistent_workers = 0, None, False

    def __init__(self, size: int, rows: tuple[Tensor, ...] | None, batch: Any) -> None:
        self.batch_size = size
        self._rows, self._batch = rows, batch

    def __iter__(self) -> Iterator[Any]:
        if self._rows is None:
            yield from repeat(self._batch)
            return
        count = len(self._rows[0])
        for chosen in torch.split(torch.randperm(count, device="cpu"), self.batch_size):
            if len(chosen) == self.batch_size:
                yield [tensor[chosen] for tensor in self._rows]
