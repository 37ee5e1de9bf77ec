"""What the loader and the loop it feeds are timed with: windows of steps, batches, and the clock.

A window is the median of its units, so that a neighbour's turn on the processor does not count. A
unit is a batch, the first of a pass over the dataset set apart; with workers a round, one batch
from each, since those that started together deliver together, or a whole pass where that is short.
"""

import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from itertools import repeat
from typing import Any

import torch
from torch.utils.data import DataLoader

from advisor.errors import WorkloadError
from advisor.statistics import median
from advisor.training.data import WorkloadSpec
from advisor.training.devices import synchronise
from advisor.training.loop import train
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Observer, Step

#: Least length of a window, in seconds: on a GPU the clock is read through a queue of work.
_WINDOW_S = {"cpu": 0.04, "cuda": 0.1, "mps": 0.1}
#: Units that a window waits for, and how often its length at most: a busy machine disturbs some.
_WANTED_UNITS, _LONGEST_WINDOW = 16, 3.0
#: A pass over the dataset that is shorter, in windows, is a unit of workers.
_SHORT_PASS_WINDOWS = 3.0
#: Steps that warm the training up; the first ones create the optimizer's state, or compile.
WARMUP_STEPS = 3
#: Batches that each worker holds ready (DataLoader's own default).
PREFETCHED = 2
#: A worker that gives no batch for this long, in seconds and in batches, hangs: some file readers
#: have locks that do not survive the fork.
_HANG_S, _HANG_BATCHES = 10.0, 5.0


class Bench:
    """A training on the device, and a batch in memory.

    `load_s` is of a batch of `size` that this process loads, `sample_s` of loading a sample and
    training on it.
    """

    def __init__(self, task: WorkloadSpec, size: int) -> None:
        # More workers than processors are meant here: most of them wait.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        self.workload = Workload(task)
        _ = self.workload.batches  # opens the dataset
        self.device = self.workload.device
        self.window_s = _WINDOW_S[self.device.type]
        self._training = self.workload.make_training()
        self.read_batch(size)  # the first is slower than others
        start = time.perf_counter()
        self.batch = self.read_batch(size)
        self.load_s = time.perf_counter() - start
        self.train(size, repeat(self.batch), Units(untimed=WARMUP_STEPS, device=self.device))
        units = self.train(size, repeat(self.batch), Units(device=self.device))
        self.sample_s = (self.load_s + units.batch_s()) / size
        self.too_long = f"one batch takes {self.load_s:.3g} s, too long for the time there is"

    def train(self, size: int, batches: Iterator[Any], units: "Units") -> "Units":
        """Train until the units have seen enough."""
        prepare = self.workload.to_device
        train(self._training, batches, [units], micro_batch_size=size, prepare=prepare)
        return units

    def read_batch(self, size: int) -> Any:
        """Return a batch that this process loads."""
        return next(Feed(self.workload.data.make_loader(size, workers=0, timeout_s=0.0)))


class Lane:
    """One size with one number of workers, and what was seen of it.

    Attributes:
        unit: Batches of a unit.
        filled: Batches that workers hold ready: after a pause they come without loading.
        untimed: Those that begin a window, after these.
        start_s: What began a pass over the dataset, its first batch included; 0 where none does.
    """

    def __init__(self, bench: Bench, size: int, workers: int) -> None:
        self.bench, self.size, self.workers = bench, size, workers
        self.unit, self.untimed, self.filled = max(1, workers), 0, 0
        self.start_s = 0.0
        self.feed: Any = None  # ends the workers, too

    def start(self, loader: Any = None) -> None:
        """Start this loader, or the user's, and its workers, up to where windows may begin."""
        bench, workers, per_pass = self.bench, self.workers, 0
        if loader is None:
            hang_s = max(_HANG_S, _HANG_BATCHES * bench.load_s)
            loader = bench.workload.data.make_loader(self.size, workers=workers, timeout_s=hang_s)
        with suppress(TypeError):  # only its end tells the length of a pass
            per_pass = len(loader)
        started_s = time.perf_counter()
        self.feed = Feed(loader)
        next(self.feed)
        pass_s = bench.sample_s * self.size * per_pass
        if workers and per_pass and pass_s < _SHORT_PASS_WINDOWS * bench.window_s:
            self.unit = per_pass
        elif workers:
            self.untimed = workers
            self.filled = workers * (loader.prefetch_factor or PREFETCHED)
        if per_pass and self.unit != per_pass and not loader.persistent_workers:
            # Else there are no passes, or they are a part of windows, or they begin only once.
            self.start_s = time.perf_counter() - started_s
        self.skip(self.unit - 1)

    def skip(self, batches: int) -> None:
        """Take batches that are not timed."""
        for _ in range(batches):
            next(self.feed)

    def time_together(self) -> "Units":
        """Return a window of training on what the loader gives."""
        units = Units(
            self.bench.window_s,
            self.unit,
            feed=self.feed,
            device=self.bench.device,
            untimed=self.untimed,
        )
        return self.bench.train(self.size, self.feed, units)


class Feed:
    """Batches, pass after pass, as epochs of training do.

    Attributes:
        has_begun: Whether the last batch is the first of a pass that has others.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader, self._pass = loader, iter(loader)
        self.has_begun, self._given = False, 0

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> Any:
        """Return the next batch; WorkloadError where a pass gives none."""
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


class Units(Observer):
    """A window of units of batches, or of steps where it observes a training.

    Without workers the first batch of a pass stands in `first_s`, apart from the other `seconds`.
    """

    def __init__(
        self,
        least_s: float = 0.0,
        unit: int = 1,
        *,
        feed: Feed | None = None,
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
        longest = _LONGEST_WINDOW if units < _WANTED_UNITS else 1.0
        return window_s < longest * self._least_s or not units

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
