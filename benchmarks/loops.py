"""Loops that users write: where batches come from, what happens once an epoch, and a step's time.

Nothing here is of the tool: it is what its advice has to win in.
"""

import functools
import math
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler
from training_tasks import compute_loss

LOOPS = ("memory", "loader", "slow", "evaluation")
SLOW_WORKERS = 2
#: What a sample of the slow dataset is unpacked to, in bytes: some tens of microseconds.
PACKED_BYTES = 30_000
WARMUP_FRACTION = 0.05
#: Samples and steps of a timed block at least: a few steps alone find everything cold.
BLOCK_SAMPLES, BLOCK_STEPS = 2048, 40
#: Interleaved rounds, the first of which is warm-up, and which quantile of the rest counts.
ROUNDS, LOW_QUANTILE = 8, 0.25

Micro = tuple[int, int]  # micro-batch size, passes of an optimizer step


class SlowDataset(Dataset[Any]):
    """A dataset of which each sample has to be unpacked, as an image or a record is."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._packed = zlib.compress(bytes(PACKED_BYTES))

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        zlib.decompress(self._packed)
        return self._dataset[index]


class InMemory:
    """Batches cut from tensors by a permutation, anew for each epoch."""

    def __init__(self, tensors: Sequence[torch.Tensor], size: int, samples: int) -> None:
        self._tensors, self._size, self._samples = tensors, size, samples

    def __iter__(self) -> Iterator[Sequence[torch.Tensor]]:
        order = torch.randperm(len(self._tensors[0]))[: self._samples]
        for chosen in order.split(self._size):
            if len(chosen) == self._size:
                yield [tensor[chosen] for tensor in self._tensors]


def make_scheduler(optimizer: torch.optim.Optimizer, total_steps: int) -> Any:
    """Return a linear warm-up and a cosine to zero over these steps."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, functools.partial(scale_rate, total_steps=total_steps)
    )


def scale_rate(step: int, total_steps: int) -> float:
    """Return what the scheduler multiplies the rate with at a step."""
    warmup = max(1, round(WARMUP_FRACTION * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))


def make_batches(loop: str, dataset: Any, size: int, samples: int) -> Iterable[Any]:
    """Return what the loop iterates over in an epoch of so many samples, shuffled, full batches."""
    if loop == "memory":
        return InMemory(dataset.tensors, size, samples)
    options: dict[str, Any] = {}
    if loop == "slow":
        dataset = SlowDataset(dataset)
        options = {"num_workers": SLOW_WORKERS, "persistent_workers": True}
    sampler = RandomSampler(dataset, num_samples=samples)
    return DataLoader(dataset, batch_size=size, sampler=sampler, drop_last=True, **options)


class TimedLoop:
    """One batch of a task in a loop: blocks of real steps on the clock."""

    def __init__(self, task: ModuleType, loop: str, micro: Micro, *, is_scheduled: bool) -> None:
        size, self._passes = micro
        dataset = task.make_dataset()
        whole, least = len(dataset), max(BLOCK_SAMPLES, BLOCK_STEPS * size * self._passes)
        samples = min(whole, least)
        self._epoch_steps = whole // size / self._passes
        self._epochs = math.ceil(least / samples)
        self._batches = make_batches(loop, dataset, size, samples)
        self._model = task.make_model()
        self._optimizer = task.make_optimizer(self._model)
        for group in self._optimizer.param_groups:
            group["lr"] = 1e-6  # the time of a step is wanted, at any length
        self._scheduler = make_scheduler(self._optimizer, 10**9) if is_scheduled else None
        # One thread that never sleeps: processor time is the time on a machine of one's own.
        self._clock = time.perf_counter if loop == "slow" else time.process_time

    def run_block(self) -> float:
        """Return the seconds of a step in a whole epoch, from a block of it."""
        start, begun_s, passes = self._clock(), 0.0, 0
        for _ in range(self._epochs):
            began, is_first = self._clock(), True
            for inputs, targets in self._batches:
                if is_first:
                    begun_s, is_first = begun_s + self._clock() - began, False
                passes += 1
                (compute_loss(self._model, inputs, targets) / self._passes).backward()
                if passes % self._passes == 0:
                    self._optimizer.step()
                    self._optimizer.zero_grad()
                    if self._scheduler is not None:
                        self._scheduler.step()
        steady = (self._clock() - start - begun_s) / (passes / self._passes)
        return steady + begun_s / self._epochs / self._epoch_steps


class Evaluation:
    """A pass over as many held-out samples as there are to train on, once an epoch."""

    def __init__(self, task: ModuleType) -> None:
        dataset = task.make_dataset()
        self._model = task.make_model()
        self._batches = DataLoader(dataset, batch_size=task.BASE_BATCH_SIZE)

    def run(self) -> float:
        """Return its seconds."""
        start = time.process_time()
        with torch.no_grad():
            for inputs, targets in self._batches:
                float(compute_loss(self._model, inputs, targets))
        return time.process_time() - start


def time_loop(
    task: ModuleType, loop: str, micros: Sequence[Micro], *, is_scheduled: bool
) -> tuple[dict[Micro, float], float]:
    """Return the seconds of an optimizer step by batch, and those of an evaluation (or 0).

    The share of the evaluation that falls on a step is in its seconds.
    """
    torch.set_num_threads(1)
    runs = {each: TimedLoop(task, loop, each, is_scheduled=is_scheduled) for each in micros}
    evaluation = Evaluation(task) if loop == "evaluation" else None
    times: dict[Micro, list[float]] = {each: [] for each in micros}
    pauses = [0.0]
    for number in range(ROUNDS):
        for each, run in runs.items():
            block = run.run_block()
            if number:
                times[each].append(block)
        if evaluation is not None:
            pauses = [*(pauses if number else []), evaluation.run()]
    pause = take_low(pauses)
    samples = len(task.make_dataset())
    return {
        each: take_low(values) + pause * each[0] * each[1] / samples
        for each, values in times.items()
    }, pause


def take_low(values: Sequence[float]) -> float:
    """Return the low quantile: other processes only ever add."""
    return sorted(values)[int(LOW_QUANTILE * len(values))]


def to_text(times: Mapping[Micro, float]) -> dict[str, float]:
    """Return the seconds under keys that JSON can have, as in `64 x 1`."""
    return {f"{size} x {passes}": seconds for (size, passes), seconds in times.items()}
