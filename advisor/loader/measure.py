"""The user's loader, timed: alone, and feeding the training.

0 workers:  (training alone | loading alone | together), in turn
w workers:  training alone | start, (loading alone | together), end | training alone
"""

import gc
import multiprocessing
import os
import shutil
import time
import warnings
from collections import defaultdict
from itertools import repeat
from pathlib import Path
from typing import Any

from advisor.device.cpu import available_memory_bytes
from advisor.engine.worker.emitter import Emit
from advisor.engine.worker.failure import describe
from advisor.loader.data import LoaderTask, LoaderTiming
from advisor.loader.measure_windows import PREFETCHED, Bench, Lane, Units
from advisor.loader.plan import choose_next_workers
from advisor.memory.measure import MESSAGE_LENGTH
from advisor.statistics import median
from advisor.training.model_file.batches import tensors_of
from advisor.training.model_file.training_data import is_map_style

#: Windows of each kind; fewer where a batch takes long.
_MOST_WINDOWS, _LEAST_WINDOWS = 4, 2
#: Numbers of workers that the time is divided for.
_EXPECTED_COUNTS = 2
#: Workers that may be started whatever the processors: those that wait need none.
_ALWAYS_ALLOWED = 16
#: Share of the free memory that prefetched batches may fill.
_MEMORY_FRACTION = 0.25


def run(task: LoaderTask, emit: Emit[LoaderTiming]) -> None:
    """Emit a LoaderTiming for the loader as it is, then for more workers."""
    with warnings.catch_warnings():
        # More workers than processors are meant here: some of them only wait.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        bench = Bench(task.workload, task.micro_batch_size)
        # Those that this process may run on.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        deadline_s = time.perf_counter() + task.budget_s
        most_workers = _limit_workers(bench.batch, cores)
        timings: list[LoaderTiming] = []
        workers: int | None = bench.workload.data.own_workers
        while workers is not None and (not timings or time.perf_counter() < deadline_s):
            lane = _LoaderLane(bench, task.micro_batch_size, workers)
            message = lane.time(task.budget_s)
            if multiprocessing.active_children():  # a cycle, as of a traceback, holds the loader
                gc.collect()
            timings.append(lane.tell(message, is_own=not timings, cores=cores))
            emit(timings[-1])
            workers = choose_next_workers(timings, most_workers=most_workers)


class _LoaderLane(Lane):
    """One number of workers, with windows of each kind."""

    def __init__(self, bench: Bench, size: int, workers: int) -> None:
        super().__init__(bench, size, workers)
        self._steps = 0
        self._seen: defaultdict[str, list[float]] = defaultdict(list)

    def time(self, budget_s: float) -> str | None:
        """Time it, and return what kept it from that."""
        load_s = self._bench.load_s
        if 2 * (1 + _LEAST_WINDOWS) * load_s >= budget_s:
            return f"one batch takes {load_s:.3g} s, too long for the time there is"
        half = _MOST_WINDOWS // 2 if self.workers else 0
        ends_s = time.perf_counter() + budget_s / _EXPECTED_COUNTS
        try:
            self._time_training(half)
            self.start()
            windows = 0
            while windows < _LEAST_WINDOWS or (
                windows < _MOST_WINDOWS and time.perf_counter() < ends_s
            ):
                self._time_training(0 if half else 1)
                self._time_loading()
                windows += 1
        except Exception as error:  # noqa: BLE001 - of the loader or its workers, told as it is
            return describe(error)[:MESSAGE_LENGTH]
        finally:
            self.feed = None  # ends the workers
        self._time_training(half)
        return None

    def _time_training(self, windows: int) -> None:
        """Add windows of training alone."""
        bench = self._bench
        for _ in range(windows):
            units = Units(bench.window_s, device=bench.device)
            self._add("training_samples_per_s", bench.train(self.size, repeat(bench.batch), units))

    def _time_loading(self) -> None:
        """Add a window of loading alone and one of both together, each after a start untimed."""
        assert self.feed is not None
        self.skip(self.filled + self.untimed)
        units = Units(self._bench.window_s, self.unit, feed=self.feed)
        next(self.feed)
        while units.count():
            next(self.feed)
        self._add("alone_samples_per_s", units)
        units = self.time_together()
        self._add("together_samples_per_s", units)
        self._seen["waiting_fractions"].append(units.waiting_fraction)
        self._steps += len(units.seconds) * self.unit

    def tell(self, message: str | None, *, is_own: bool, cores: int | None) -> LoaderTiming:
        """Return what was seen."""
        alone = self._seen["alone_samples_per_s"]
        series: dict[str, Any] = {name: tuple(values) for name, values in self._seen.items()}
        return LoaderTiming(
            workers=self.workers,
            micro_batch_size=self.size,
            is_own=is_own,
            batch_s=self.size / median(alone) if alone else None,
            steps=self._steps,
            cores=cores,
            is_iterable=not is_map_style(self._bench.workload.data.dataset),
            message=message,
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
