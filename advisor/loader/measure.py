"""The user's loader, timed: alone, and feeding the training.

for each number of workers, as `choose_next_workers` asks for it:
    training alone | start, fill | loading alone | fill | together | training alone
      windows         not timed      windows     not timed  windows    windows

A window of loading is made of whole rounds, one batch from each worker: workers that started
together deliver together.
"""

import gc
import math
import multiprocessing
import os
import shutil
import time
import warnings
from collections import defaultdict
from collections.abc import Generator, Iterator
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
from advisor.training.device_clock import synchronise
from advisor.training.loop import train
from advisor.training.model_file.batches import tensors_of
from advisor.training.model_file.data import is_map_style
from advisor.training.model_file.loader import count_own_workers, make_loader
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Step

#: Least length of a window, in seconds: on a GPU the clock is read through a queue of work.
_WINDOW_S = {"cpu": 0.04, "cuda": 0.1, "mps": 0.1}
#: Windows of loading alone and of both together; fewer where a batch takes long.
_MOST_WINDOWS, _LEAST_WINDOWS = 4, 2
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
    """Emit one LoaderTiming for each number of workers, the loader as it is first."""
    with warnings.catch_warnings():
        # More workers than processors are meant here: some of them only wait.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        bench = _Bench(task)
        timings: list[LoaderTiming] = []
        workers: int | None = count_own_workers(bench.workload)
        while workers is not None and time.perf_counter() < bench.deadline_s:
            timings.append(bench.time_workers(workers, is_own=not timings))
            emit(timings[-1])
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
        self._size = task.micro_batch_size
        self._window_s = _WINDOW_S[self.workload.device.type]
        self._training = self.workload.make_training()
        self._cores = _count_cores()
        feed = _read_on(make_loader(self.workload, self._size, workers=0, timeout_s=0.0))
        self._batch = next(feed)  # the first is slower than others
        start = time.perf_counter()
        self._batch = next(feed)
        self._cost_s = max(time.perf_counter() - start, self._window_s)
        feed.close()
        self._train(repeat(self._batch), windows=0, untimed=_WARMUP_STEPS)
        rounds = int(task.budget_s / (2 * _EXPECTED_COUNTS * self._cost_s)) - 1
        self._windows = min(_MOST_WINDOWS, max(_LEAST_WINDOWS, rounds))
        self._budget_s = task.budget_s
        self.deadline_s = time.perf_counter() + task.budget_s
        self._hang_s = max(_HANG_S, _HANG_BATCHES * self._cost_s)
        self.most_workers = _limit_workers(self._batch, self._cores)

    def time_workers(self, workers: int, *, is_own: bool) -> LoaderTiming:
        """Return the figures with this number of workers, or why there are none."""
        seen: defaultdict[str, list[float]] = defaultdict(list)
        self._fed, message = 0, None
        try:
            if 2 * (1 + self._windows) * self._cost_s < self._budget_s:
                self._time(workers, seen)
            else:
                message = f"one batch takes {self._cost_s:.3g} s, too long for the time there is"
        except Exception as error:  # noqa: BLE001 - of the loader or its workers, told as it is
            message = describe(error)[:MESSAGE_LENGTH]
        if multiprocessing.active_children():  # a cycle, as of a traceback, holds the loader
            gc.collect()
        alone = seen["alone_samples_per_s"]
        timing = LoaderTiming(
            workers=workers,
            micro_batch_size=self._size,
            is_own=is_own,
            batch_s=self._size / alone[-1] if alone else None,
            steps=self._fed,
            cores=self._cores,
            is_iterable=not is_map_style(self.workload.dataset),
            message=message,
        )
        series = {name: tuple(values) for name, values in seen.items()}
        return msgspec.structs.replace(timing, **series)

    def _time(self, workers: int, seen: dict[str, list[float]]) -> None:
        half = math.ceil(_MOST_WINDOWS / 2)
        training = seen["training_samples_per_s"]
        training += self._train(repeat(self._batch), windows=half).samples_per_s
        loader = make_loader(self.workload, self._size, workers=workers, timeout_s=self._hang_s)
        feed = _read_on(loader)
        try:
            self._time_loader(feed, max(1, workers), seen)
        finally:
            feed.close()
            del feed, loader  # ends the workers
        training += self._train(repeat(self._batch), windows=half).samples_per_s

    def _time_loader(
        self, feed: Iterator[Any], per_round: int, seen: dict[str, list[float]]
    ) -> None:
        """Add the windows of loading alone and of both together, each after a round untimed."""
        for _ in range(per_round):
            next(feed)
        seen["alone_samples_per_s"] += [
            self._time_loading(feed, per_round) for _ in range(self._windows)
        ]
        fed = self._train(feed, windows=self._windows, per_round=per_round, untimed=per_round)
        seen["together_samples_per_s"] += fed.samples_per_s
        seen["waiting_fractions"] += fed.waiting_fractions
        self._fed += fed.steps

    def _train(
        self, batches: Iterator[Any], *, windows: int, per_round: int = 1, untimed: int = 0
    ) -> "WaitObserver":
        observer = WaitObserver(
            self.workload.device,
            window_s=self._window_s,
            windows=windows,
            per_round=per_round,
            untimed=untimed,
        )
        train(
            self._training,
            batches,
            [observer],
            micro_batch_size=self._size,
            prepare=self.workload.to_device,
        )
        return observer

    def _time_loading(self, feed: Iterator[Any], per_round: int) -> float:
        """Return samples per second of loading alone, over whole rounds."""
        start, batches = time.perf_counter(), 0
        while time.perf_counter() - start < self._window_s:
            for _ in range(per_round):
                next(feed)
            batches += per_round
        return batches * self._size / (time.perf_counter() - start)


class WaitObserver:
    """Windows of steps, of whole rounds each: how fast they are, and their wait for data.

    Attributes:
        samples_per_s: One for each window.
        waiting_fractions: Of the window's time.
        steps: In all windows.
    """

    def __init__(
        self, device: torch.device, *, window_s: float, windows: int, per_round: int, untimed: int
    ) -> None:
        self._device, self._window_s, self._windows = device, window_s, windows
        self._per_round, self._untimed = per_round, untimed
        self.samples_per_s: list[float] = []
        self.waiting_fractions: list[float] = []
        self.steps = 0
        self._begin()

    def before_step(self, step: Step) -> None:
        """See nothing."""

    def after_step(self, step: Step) -> bool:
        """Count the step; return False after the last window."""
        if step.number <= self._untimed:
            if step.number == self._untimed:
                self._begin()
            return step.number < self._untimed or self._windows > 0
        self._waits_s.append(step.waited_s)
        is_open = time.perf_counter() - self._began_s < self._window_s
        if len(self._waits_s) % self._per_round or is_open:
            return True
        synchronise(self._device)
        elapsed_s = time.perf_counter() - self._began_s
        self.samples_per_s.append(len(self._waits_s) * step.samples / elapsed_s)
        self.waiting_fractions.append(math.fsum(self._waits_s) / elapsed_s)
        self.steps += len(self._waits_s)
        self._begin()
        return len(self.samples_per_s) < self._windows

    def _begin(self) -> None:
        synchronise(self._device)
        self._waits_s: list[float] = []
        self._began_s = time.perf_counter()


def _read_on(loader: DataLoader[Any]) -> Generator[Any, None, None]:
    """Yield batches, pass after pass, as epochs of training do.

    Raises:
        WorkloadError: A pass gives no batch.
    """
    while True:
        count = 0
        for batch in loader:
            count += 1
            yield batch
        if not count:
            raise WorkloadError(
                f"one pass over the dataset gives no full batch of {loader.batch_size} with "
                f"{loader.num_workers} workers",
                next_step="A worker that reads part of a stream needs a batch of its own.",
            )


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
