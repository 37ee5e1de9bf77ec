"""The user's loader, timed alone and feeding the training; and steps of the loop at several sizes.

0 workers:  (training alone | loading alone | together), in turn
w workers:  training alone | start, (loading alone | together), end | training alone
the loop:   size 1 | size 2 | ...   in turns, each with a loader of its own
"""

import gc
import multiprocessing
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advisor.device.cpu import available_memory_bytes
from advisor.engine.worker.emitter import Emit
from advisor.engine.worker.failure import describe
from advisor.loader.data import LoaderTask, LoaderTiming, LoopTask, LoopTiming
from advisor.loader.measure_windows import PREFETCHED, WARMUP_STEPS, Bench, Lane, Units
from advisor.loader.plan import choose_next_workers
from advisor.memory.measure import MESSAGE_LENGTH
from advisor.statistics import median
from advisor.training.model_file.batches import tensors_of
from advisor.training.model_file.training_data import is_map_style

#: Windows of each kind; fewer where a batch takes long.
_MOST_WINDOWS, _LEAST_WINDOWS = 4, 2
#: Rounds of windows; fewer where a batch takes long.
_MOST_ROUNDS, _LEAST_ROUNDS = 10, 3
#: Batches that are fetched for their time.
_FETCHES = 3
#: Loading processes of all sizes together: those of the other sizes wait with their batches ready.
_MOST_PROCESSES = 16
#: Numbers of workers that the time is divided for.
_EXPECTED_COUNTS = 2
#: Workers that may be started whatever the processors: those that wait need none.
_ALWAYS_ALLOWED = 16
#: Share of the free memory that prefetched batches may fill.
_MEMORY_FRACTION = 0.25


@contextmanager
def noting_failures(said: list[str]) -> Iterator[None]:
    """Note what the loader or its workers raise, to be told as it is: what was timed stands."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - of the user's code, whatever it is
        said.append(describe(error)[:MESSAGE_LENGTH])


def run(task: LoaderTask, emit: Emit[LoaderTiming]) -> None:
    """Emit a LoaderTiming for the loader as it is, then for more workers."""
    bench = Bench(task.workload, task.micro_batch_size)
    # Those that this process may run on.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    deadline_s = time.perf_counter() + task.budget_s
    most_workers = _limit_workers(bench.batch, cores)
    timings: list[LoaderTiming] = []
    workers: int | None = bench.workload.data.own_workers
    while workers is not None and (not timings or time.perf_counter() < deadline_s):
        lane = _LoaderLane(bench, task.micro_batch_size, workers)
        lane.time(task.budget_s)
        if multiprocessing.active_children():  # a cycle, as of a traceback, holds the loader
            gc.collect()
        timings.append(lane.tell(is_own=not timings, cores=cores))
        emit(timings[-1])
        workers = choose_next_workers(timings, most_workers=most_workers)


class _LoaderLane(Lane):
    """One number of workers, with windows of each kind."""

    def __init__(self, bench: Bench, size: int, workers: int) -> None:
        super().__init__(bench, size, workers)
        self._steps = 0
        self._seen: defaultdict[str, list[float]] = defaultdict(list)
        self._failures: list[str] = []

    def time(self, budget_s: float) -> None:
        """Time it, as far as nothing keeps it from that."""
        if 2 * (1 + _LEAST_WINDOWS) * self.bench.load_s >= budget_s:
            self._failures.append(self.bench.too_long)
            return
        half = _MOST_WINDOWS // 2 if self.workers else 0
        ends_s = time.perf_counter() + budget_s / _EXPECTED_COUNTS
        with noting_failures(self._failures):
            self._time_training(half)
            self.start()
            for windows in range(_MOST_WINDOWS):
                if windows >= _LEAST_WINDOWS and time.perf_counter() >= ends_s:
                    break
                self._time_training(0 if half else 1)
                self._time_loading()
            self.feed = None
            self._time_training(half)
        self.feed = None

    def _time_training(self, windows: int) -> None:
        """Add windows of training alone."""
        bench = self.bench
        for _ in range(windows):
            units = Units(bench.window_s, device=bench.device)
            self._add("training_samples_per_s", bench.train(self.size, repeat(bench.batch), units))

    def _time_loading(self) -> None:
        """Add a window of loading alone and one of both together, each after a start untimed."""
        self.skip(self.filled + self.untimed)
        units = Units(self.bench.window_s, self.unit, feed=self.feed)
        next(self.feed)
        while units.count():
            next(self.feed)
        self._add("alone_samples_per_s", units)
        units = self.time_together()
        self._add("together_samples_per_s", units)
        self._seen["waiting_fractions"].append(units.waiting_fraction)
        self._steps += len(units.seconds) * self.unit

    def tell(self, *, is_own: bool, cores: int | None) -> LoaderTiming:
        """Return what was seen, and what kept it from more."""
        alone = self._seen["alone_samples_per_s"]
        series: dict[str, Any] = {name: tuple(values) for name, values in self._seen.items()}
        return LoaderTiming(
            workers=self.workers,
            micro_batch_size=self.size,
            is_own=is_own,
            batch_s=self.size / median(alone) if alone else None,
            steps=self._steps,
            cores=cores,
            is_iterable=not is_map_style(self.bench.workload.data.dataset),
            message=next(iter(self._failures), None),
            **series,
        )

    def _add(self, name: str, units: Units) -> None:
        self._seen[name].append(self.size / units.batch_s())


def _limit_workers(batch: Any, cores: int | None) -> int:
    """Return the workers that may be started, so that their batches leave room in memory."""
    wanted = max(_ALWAYS_ALLOWED, 2 * (cores or 1))
    free_bytes = available_memory_bytes()
    shared = Path("/dev/shm")  # noqa: S108 - where batches cross between processes on Linux
    if shared.is_dir():
        free_bytes = min(free_bytes, shutil.disk_usage(shared).free)
    batch_bytes = sum(tensor.element_size() * tensor.numel() for tensor in tensors_of(batch))
    if not batch_bytes:
        return wanted
    return max(1, min(wanted, int(_MEMORY_FRACTION * free_bytes / (PREFETCHED * batch_bytes))))


def run_loop(task: LoopTask, emit: Emit[LoopTiming]) -> None:
    """Emit one LoopTiming."""
    deadline_s = time.perf_counter() + task.budget_s
    bench = Bench(task.workload, task.micro_batch_sizes[0])
    workers = 0 if task.is_in_memory else bench.workload.data.own_workers
    sizes, lanes = _choose_sizes(task, bench, workers), list[_LoopLane]()
    failures = [] if sizes else [bench.too_long]
    for size in sizes:
        with noting_failures(failures):
            lane = _LoopLane(bench, size, workers)
            lane.begin(is_in_memory=task.is_in_memory)
            lanes.append(lane)
    rounds = 0
    with noting_failures(failures):
        while rounds < _LEAST_ROUNDS or (
            rounds < _MOST_ROUNDS and time.perf_counter() < deadline_s
        ):
            for lane in lanes:
                lane.time_round()
            rounds += 1
    for lane in lanes:
        lane.feed = None
    timing = LoopTiming(
        workers=workers,
        is_in_memory=task.is_in_memory,
        micro_batch_sizes=tuple(lane.size for lane in lanes),
        step_s=tuple(tuple(lane.step_s[:rounds]) for lane in lanes),
        pass_s=tuple(lane.pass_s for lane in lanes),
        fetch_s=_time_fetching(bench, task.micro_batch_sizes[0]),
        message=failures[-1] if failures else None,
    )
    emit(timing)


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
        rows = self.bench.workload.rows
        batch = self.bench.read_batch(self.size) if is_in_memory and not rows else None
        self.start(_InMemory(self.size, rows, batch) if is_in_memory else None)
        warm_up = Units(untimed=WARMUP_STEPS, device=self.bench.device)
        self.bench.train(self.size, self.feed, warm_up)

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
        return max(0.0, self.start_s - self.bench.load_s)


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
