"""The user's loader, timed: alone, and feeding the training, at two sizes for the loader as it is.

    0 workers:  (training alone | loading alone | together), at one size and the other, in turn
    w workers:  training alone | start, (loading alone | together), end | training alone

A window is the median of its units, so that a neighbour's turn on the processor does not count. A
unit is a batch, the first of a pass over the dataset set apart; with workers a round, one batch
from each, since those that started together deliver together, or a whole pass where that is short.
"""

import gc
import multiprocessing
import os
import shutil
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch.utils.data import DataLoader

from advisor.device.cpu import available_memory_bytes
from advisor.engine.worker.entry import Emit, describe
from advisor.errors import WorkloadError
from advisor.loader.data import LoaderTask, LoaderTiming
from advisor.loader.plan import choose_next_workers
from advisor.memory.measure import MESSAGE_LENGTH
from advisor.statistics import median
from advisor.training.device_clock import synchronise
from advisor.training.loop import train
from advisor.training.model_file.batches import tensors_of
from advisor.training.model_file.data import is_map_style
from advisor.training.model_file.loader import count_own_workers, make_loader
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Step

#: Least length of a window, in seconds: on a GPU the clock is read through a queue of work.
_WINDOW_S = {"cpu": 0.04, "cuda": 0.1, "mps": 0.1}
#: Units that a window waits for, and how often its length at most: a busy machine disturbs some.
_WANTED_UNITS, _LONGEST_WINDOW = 16, 3.0
#: Windows of each kind; fewer where a batch takes long.
_MOST_WINDOWS, _LEAST_WINDOWS = 4, 2
#: A pass over the dataset that is shorter, in windows, is a unit of workers.
_SHORT_PASS_WINDOWS = 3.0
#: Numbers of workers that the time is divided for.
_EXPECTED_COUNTS = 2
#: Steps that warm the training up; the first ones create the optimizer's state, or compile.
_WARMUP_STEPS = 3
#: Workers that may be started whatever the processors: those that wait need none.
_ALWAYS_ALLOWED = 16
#: Batches that each worker holds ready (DataLoader's own default).
_PREFETCHED = 2
#: Share of the free memory that prefetched batches may fill.
_MEMORY_FRACTION = 0.25
#: A worker that gives no batch for this long, in seconds and in batches, hangs: some file readers
#: have locks that do not survive the fork.
_HANG_S, _HANG_BATCHES = 10.0, 5.0


def run(task: LoaderTask, emit: Emit[LoaderTiming]) -> None:
    """Emit a LoaderTiming for the loader as it is, at each size, then for more workers."""
    with warnings.catch_warnings():
        # More workers than processors are meant here: some of them only wait.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        bench = _Bench(task)
        timings: list[LoaderTiming] = []
        workers: int | None = count_own_workers(bench.workload)
        while workers is not None and (not timings or time.perf_counter() < bench.deadline_s):
            for timing in bench.time_workers(workers, is_own=not timings):
                timings.append(timing)
                emit(timing)
            workers = choose_next_workers(timings, most_workers=bench.most_workers)


class _Bench:
    """A training on the device, a batch in memory, and the clock.

    Attributes:
        most_workers: No more than these may be started.
        deadline_s: No further number of workers is begun after it.
    """

    def __init__(self, task: LoaderTask) -> None:
        self.workload = Workload(task.workload)
        _ = self.workload.batches  # opens the dataset
        self.device = self.workload.device
        self.window_s = _WINDOW_S[self.device.type]
        self.cores = _count_cores()
        self._training = self.workload.make_training()
        self._size = size = task.micro_batch_size
        self.read_batch(size)  # the first is slower than others
        start = time.perf_counter()
        batch = self.read_batch(size)
        self._load_s = time.perf_counter() - start
        self.train(size, repeat(batch), _Units(untimed=_WARMUP_STEPS, device=self.device))
        units = self.train(size, repeat(batch), _Units(device=self.device))
        self._sample_s = (self._load_s + units.batch_s()) / size
        self._budget_s = task.budget_s
        self.deadline_s = time.perf_counter() + task.budget_s
        self.hang_s = max(_HANG_S, _HANG_BATCHES * self._load_s)
        self.most_workers = _limit_workers(batch, self.cores)
        most = self._budget_s / (4 * _EXPECTED_COUNTS * _LEAST_WINDOWS * self._sample_s)
        self._sizes = (size, *[other for other in task.other_sizes if other <= most][:1])

    def time_workers(self, workers: int, *, is_own: bool) -> Iterator[LoaderTiming]:
        """Yield the figures with this number of workers, or why there are none."""
        lanes = [_Lane(self, size, workers) for size in self._sizes[: 2 if is_own else 1]]
        # Sizes without workers take turns; the workers of one would disturb the other.
        for group in [[lane] for lane in lanes] if workers else [lanes]:
            message = self._time(group)
            if multiprocessing.active_children():  # a cycle, as of a traceback, holds the loader
                gc.collect()
            for lane in group:
                yield lane.tell(message, is_own=is_own)

    def _time(self, lanes: "list[_Lane]") -> str | None:
        """Time these sizes, and return what kept them from it."""
        if 2 * (1 + _LEAST_WINDOWS) * self._load_s >= self._budget_s:
            return f"one batch takes {self._load_s:.3g} s, too long for the time there is"
        half = _MOST_WINDOWS // 2 if lanes[0].workers else 0
        ends_s = time.perf_counter() + self._budget_s / _EXPECTED_COUNTS
        try:
            for lane in lanes:
                lane.time_training(half)
                lane.start()
            windows = 0
            while windows < _LEAST_WINDOWS or (
                windows < _MOST_WINDOWS and time.perf_counter() < ends_s
            ):
                for lane in lanes:
                    lane.time_training(0 if half else 1)
                    lane.time_loading()
                windows += 1
        except Exception as error:  # noqa: BLE001 - of the loader or its workers, told as it is
            return describe(error)[:MESSAGE_LENGTH]
        finally:
            for lane in lanes:
                lane.feed = None  # ends the workers
        for lane in lanes:
            lane.time_training(half)
        return None

    def train(self, size: int, batches: Iterator[Any], units: "_Units") -> "_Units":
        """Train until the units have seen enough."""
        prepare = self.workload.to_device
        train(self._training, batches, [units], micro_batch_size=size, prepare=prepare)
        return units

    def read_batch(self, size: int) -> Any:
        """Return a batch that this process loads."""
        return next(_Feed(make_loader(self.workload, size, workers=0, timeout_s=0.0)))

    def is_short(self, samples: int) -> bool:
        """Return whether so many samples are trained on in a few windows."""
        return self._sample_s * samples < _SHORT_PASS_WINDOWS * self.window_s


class _Lane:
    """One size with one number of workers, and what was seen of it."""

    def __init__(self, bench: _Bench, size: int, workers: int) -> None:
        self.workers = workers
        self.feed: _Feed | None = None
        self._bench, self._size = bench, size
        self._unit = self._round = max(1, workers)
        self._untimed = self._filled = 0
        self._starts_s: list[float] = []
        self._steps = 0
        self._seen: defaultdict[str, list[float]] = defaultdict(list)
        self._batch: Any = None

    def start(self) -> None:
        """Start the loader, and its workers, up to where windows may begin."""
        bench = self._bench
        loader = make_loader(
            bench.workload, self._size, workers=self.workers, timeout_s=bench.hang_s
        )
        per_pass = _count_batches(loader)
        started_s = time.perf_counter()
        self.feed = _Feed(loader)
        next(self.feed)
        self._starts_s.append(time.perf_counter() - started_s)
        if self.workers and per_pass and bench.is_short(per_pass * self._size):
            self._unit = per_pass
            self._skip(per_pass - 1)
        elif self.workers:
            self._untimed = self._round
            self._filled = self.workers * (loader.prefetch_factor or _PREFETCHED)
            self._skip(self._round - 1)
        if per_pass is None or self._unit == per_pass or loader.persistent_workers:
            self._starts_s = []  # no passes, or a part of every window, or begun only once

    def time_training(self, windows: int) -> None:
        """Add windows of training alone, and of the way to the device."""
        bench = self._bench
        if self._batch is None:
            self._batch = bench.read_batch(self._size)
        for _ in range(windows):
            units = _Units(bench.window_s, device=bench.device)
            bench.train(self._size, repeat(self._batch), units)
            self._add("training_samples_per_s", units)
            if bench.device.type != "cpu":
                started_s = time.perf_counter()
                bench.workload.to_device(self._batch)
                synchronise(bench.device)
                self._seen["moving_s"].append(time.perf_counter() - started_s)

    def time_loading(self) -> None:
        """Add a window of loading alone and one of both together, each after a start untimed."""
        feed, bench = self.feed, self._bench
        assert feed is not None
        self._skip(self._filled + self._untimed)
        units = _Units(bench.window_s, self._unit, feed=feed)
        next(feed)
        while units.count():
            next(feed)
        self._add("alone_samples_per_s", units)
        self._starts_s += units.first_s
        units = _Units(
            bench.window_s, self._unit, feed=feed, device=bench.device, untimed=self._untimed
        )
        bench.train(self._size, feed, units)
        self._add("together_samples_per_s", units)
        self._seen["waiting_fractions"].append(units.waiting_fraction)
        self._steps += len(units.seconds) * self._unit

    def tell(self, message: str | None, *, is_own: bool) -> LoaderTiming:
        """Return what was seen."""
        alone = self._seen["alone_samples_per_s"]
        batch_s = self._size / median(alone) if alone else None
        restart_s = 0.0
        if batch_s is not None and self._starts_s:
            restart_s = max(0.0, median(self._starts_s) - self._round * batch_s)
        timing = LoaderTiming(
            workers=self.workers,
            micro_batch_size=self._size,
            is_own=is_own,
            batch_s=batch_s,
            restart_s=restart_s,
            steps=self._steps,
            cores=self._bench.cores,
            is_iterable=not is_map_style(self._bench.workload.dataset),
            message=message,
        )
        series = {name: tuple(values) for name, values in self._seen.items()}
        return msgspec.structs.replace(timing, **series)

    def _add(self, name: str, units: "_Units") -> None:
        self._seen[name].append(self._size / units.batch_s())

    def _skip(self, batches: int) -> None:
        assert self.feed is not None
        for _ in range(batches):
            next(self.feed)


class _Feed:
    """Batches, pass after pass, as epochs of training do.

    Attributes:
        has_begun: Whether the last batch is the first of a pass that has others.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader, self._pass = loader, iter(loader)
        self.has_begun, self._given = False, 0

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> Any:
        """Return the next batch.

        Raises:
            WorkloadError: A pass gives none.
        """
        batch = next(self._pass, None)
        self.has_begun = batch is None and self._given > 1
        if batch is None:
            self._pass, self._given = iter(self._loader), 0
            batch = next(self._pass, None)
        if batch is None:
            raise WorkloadError(
                f"one pass over the dataset gives no full batch of {self._loader.batch_size} with "
                f"{self._loader.num_workers} workers",
                next_step="A worker that reads part of a stream needs a batch of its own.",
            )
        self._given += 1
        return batch


class _Units:
    """A window of units of batches, or of steps where it observes a training.

    Attributes:
        seconds: Of each unit; without workers the first batch of a pass stands in `first_s`.
        waiting_fraction: Share of the window that training waited for data.
    """

    def __init__(
        self,
        least_s: float = 0.0,
        unit: int = 1,
        *,
        feed: _Feed | None = None,
        device: torch.device | None = None,
        untimed: int = 0,
    ) -> None:
        self._least_s, self._unit, self._feed, self._untimed = least_s, unit, feed, untimed
        self._device = device
        self.seconds: list[float] = []
        self.first_s: list[float] = []
        self.waiting_fraction = self._waited_s = 0.0
        self._counted = 0
        self._began_s = self._unit_began_s = time.perf_counter()

    def count(self) -> bool:
        """Count a batch that has come; return False at the window's end."""
        self._counted += 1
        if self._counted % self._unit:
            return True
        now_s = time.perf_counter()
        is_first = self._unit == 1 and self._feed is not None and self._feed.has_begun
        (self.first_s if is_first else self.seconds).append(now_s - self._unit_began_s)
        self._unit_began_s = now_s
        window_s, units = now_s - self._began_s, len(self.seconds)
        is_wanting = self._least_s > 0 and units < _WANTED_UNITS
        return window_s < (_LONGEST_WINDOW if is_wanting else 1.0) * self._least_s or not units

    def before_step(self, step: Step) -> None:
        """See nothing."""

    def after_step(self, step: Step) -> bool:
        """Count the step; return False at the window's end."""
        if step.number <= self._untimed:
            self._began_s = self._unit_began_s = time.perf_counter()
            return True
        self._waited_s += step.waited_s
        if self.count():
            return True
        if self._device is not None and self._device.type != "cpu":
            synchronise(self._device)  # steps were only issued when they were counted
            self.seconds = [self._unit * (time.perf_counter() - self._began_s) / self._counted]
        self.waiting_fraction = self._waited_s / (time.perf_counter() - self._began_s)
        return False

    def batch_s(self) -> float:
        """Return the seconds of a batch, in the middle of the units."""
        return median(self.seconds) / self._unit


def _count_batches(loader: DataLoader[Any]) -> int | None:
    """Return the batches of a pass over the dataset, None where only its end tells."""
    try:
        return len(loader)
    except TypeError:
        return None


def _count_cores() -> int | None:
    """Return the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


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
    return max(1, min(wanted, int(_MEMORY_FRACTION * free_bytes / (_PREFETCHED * batch_bytes))))
