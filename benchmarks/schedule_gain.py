"""A batch that follows its monitor against the best constant one: the time to an equal final loss.

For each task and rate schedule (a warm-up and a cosine; warm-up, stable and decay) constant batches
of a grid are trained at tuned rates to two lengths from five seeds, and so is the monitored
schedule, which begins with the task's own batch at its tuned rate, the grid's smallest. The loss is
the mean over both lengths of the constant base batch; the time of each is read where a line through
its two ends, in logarithms, has that loss. Steps are timed apart from training, in turns.

    OMP_NUM_THREADS=1 python benchmarks/schedule_gain.py [task ...]
"""

import functools
import json
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from loops import Micro, scale_rate, time_loop, to_text
from results import HERE, write_results
from scipy import stats
from training_tasks import compute_loss, load_task

from advisor import BatchSizeSchedule, NoiseScaleMonitor

#: Passes over the data of the middle length.
EPOCHS = {"digits_adamw": 14, "char_lm": 2.5, "digits_sgd": 8}
LENGTHS = (0.7, 1.4)
#: Constant batches over the task's own.
FACTORS = (1, 2, 4)
SEEDS, TUNING_SEEDS = (100, 101, 102, 103, 104), (200,)
RATE_FACTOR, RATES = 2.0, (-1, 0, 1)
KINDS = ("cosine", "stable")
DECAY_FRACTION, WARMUP_FRACTION = 0.2, 0.05
#: Measured steps; so often that a training of seconds has some.
EVERY = 10
LOOKED_AT = 2048
#: A loss of exactly 0 has no logarithm.
LEAST_LOSS = 1e-9
WORKERS = 2


def scale_stable(step: int, total_steps: int) -> float:
    """Return what the scheduler multiplies the rate with: up, level, down to zero."""
    warm, decay = WARMUP_FRACTION * total_steps, DECAY_FRACTION * total_steps
    return max(0.0, min(1.0, (step + 1) / max(1.0, warm), (total_steps - step) / decay))


@functools.cache
def load(name: str) -> tuple[Any, Any, Any, Any]:
    """Return a task, its data, and the samples on which the loss is looked at."""
    task = load_task(name)
    inputs, targets = task.make_dataset().tensors
    generator = torch.Generator().manual_seed(0)
    return task, inputs, targets, torch.randperm(len(inputs), generator=generator)[:LOOKED_AT]


def train(
    name: str, kind: str, batch: int, rate: float, length: float, seed: int, micro: int, grows: int
) -> tuple[float, dict[int, int]]:
    """Return the loss at the end, and how many steps each batch had.

    Args:
        name: The task.
        kind: Of the rate schedule.
        batch: The first, or the only one.
        rate: At that batch.
        length: Over the middle one.
        seed: Of parameters and order.
        micro: The micro-batch.
        grows: The largest batch; 0 keeps the first.
    """
    task, inputs, targets, shown = load(name)
    torch.manual_seed(seed)
    model = task.make_model()
    optimizer = task.make_optimizer(model, lr=rate)
    samples = round(EPOCHS[name] * length * len(inputs))
    shape = scale_rate if kind == "cosine" else scale_stable
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, functools.partial(shape, total_steps=samples // batch)
    )
    monitor = NoiseScaleMonitor(model, optimizer, every=EVERY, dataset_size=len(inputs))
    schedule = BatchSizeSchedule(
        f"0:{batch}",
        optimizer,
        micro_batch_size=micro,
        monitor=monitor if grows else None,
        largest_batch_size=grows or None,
    )
    if grows:
        monitor.__enter__()
    steps: Counter[int] = Counter()
    generator = torch.Generator().manual_seed(seed)
    while schedule.samples_seen < samples:
        order = torch.randperm(len(inputs), generator=generator)
        for chosen in order[: len(order) // micro * micro].split(micro):
            size = schedule.batch_size
            (
                compute_loss(model, inputs[chosen], targets[chosen]) / schedule.micro_batches
            ).backward()
            if schedule.should_step():
                optimizer.step()
                schedule.step_scheduler(scheduler)
                optimizer.zero_grad()
                steps[size] += 1
                if schedule.samples_seen >= samples:
                    break
    monitor.__exit__()
    with torch.no_grad():
        loss = float(compute_loss(model, inputs[shown], targets[shown]))
    return max(loss, LEAST_LOSS) if math.isfinite(loss) else math.inf, dict(steps)


def tune(name: str, kind: str, batch: int) -> float:
    """Return the rate of the least loss at the middle length, at most at one end of those tried."""
    task = load(name)[0]
    group = task.make_optimizer(task.make_model()).param_groups[0]
    power = 0.5 if "betas" in group else 1.0
    middle = group["lr"] * (batch / task.BASE_BATCH_SIZE) ** power
    losses: dict[int, float] = {}

    def measure(place: int) -> float:
        if place not in losses:
            rate = middle * RATE_FACTOR**place
            ends = [train(name, kind, batch, rate, 1.0, s, batch, 0)[0] for s in TUNING_SEEDS]
            losses[place] = statistics.fmean(map(math.log, ends))
        return losses[place]

    for place in RATES:
        measure(place)
    while (best := min(losses, key=losses.__getitem__)) in {min(losses), max(losses)}:
        measure(best + (1 if best == max(losses) else -1))
        if len(losses) > 3 * len(RATES):
            break
    return middle * RATE_FACTOR**best


def read_cost(ends: Sequence[tuple[float, float]], loss: float) -> float:
    """Return the log of a cost at a loss, from a line through (cost, loss) in logarithms."""
    costs, losses = (np.log([end[i] for end in ends]) for i in (0, 1))
    slope, start = np.polyfit(costs, losses, 1)
    return float((math.log(loss) - start) / slope)


def compare(own: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """Return the ratio of two costs, paired by seed, with its 95 % interval."""
    logs = [a - b for a, b in zip(own, other, strict=True)]
    mean, error = statistics.fmean(logs), statistics.stdev(logs) / math.sqrt(len(logs))
    reach = float(stats.t.ppf(0.975, len(logs) - 1)) * error
    return {"ratio": math.exp(mean), "low": math.exp(mean - reach), "high": math.exp(mean + reach)}


def measure_cell(name: str, kind: str, times: dict[Micro, float]) -> dict[str, Any]:
    """Return what one task showed under one rate schedule."""
    torch.set_num_threads(1)
    base = load(name)[0].BASE_BATCH_SIZE
    sizes = [round(base * factor) for factor in FACTORS]
    micro, most = sizes[0] // 2, 2 * sizes[-1]
    rates = {size: tune(name, kind, size) for size in sizes}
    ways: list[tuple[str, int, int]] = [(str(size), size, 0) for size in sizes]
    ways.append(("monitored", sizes[0], most))
    ends: dict[str, list[list[tuple[float, dict[int, int]]]]] = {
        way: [
            [
                train(name, kind, size, rates[size], n, seed, micro if grows else size, grows)
                for n in LENGTHS
            ]
            for seed in SEEDS
        ]
        for way, size, grows in ways
    }
    loss = math.exp(
        statistics.fmean(math.log(end) for of_seed in ends[str(base)] for end, _ in of_seed)
    )

    def add_up(steps: dict[int, int], what: str, way: str) -> float:
        if what == "steps":
            return sum(steps.values())
        if what == "samples":
            return sum(size * count for size, count in steps.items())
        is_whole = what == "time, constant batches in one pass" and way != "monitored"
        return sum(
            count * times[(size, 1) if is_whole else (micro, size // micro)]
            for size, count in steps.items()
        )

    def cost(way: str, what: str) -> list[float]:
        return [
            read_cost([(add_up(steps, what, way), end) for end, steps in of_seed], loss)
            for of_seed in ends[way]
        ]

    found: dict[str, Any] = {}
    for what in (
        "time, the same micro-batch", "time, constant batches in one pass", "samples", "steps"
    ):  # fmt: skip
        costs = {way: cost(way, what) for way in ends}
        means = {way: statistics.fmean(values) for way, values in costs.items()}
        best = min((str(size) for size in sizes), key=means.__getitem__)
        found[what] = {"best_batch": int(best), **compare(costs["monitored"], costs[best])}
    courses = [of_seed[-1][1] for of_seed in ends["monitored"]]
    return {
        "task": name,
        "rate_schedule": kind,
        "loss": loss,
        "rates": rates,
        "micro_batch_size": micro,
        "largest_batch_size": most,
        "steps_by_batch": courses,
        "losses": {way: [[end for end, _ in row] for row in rows] for way, rows in ends.items()},
        **found,
    }


def measure_monitor(name: str) -> float:
    """Return the time of a training with its monitor over that without, in turns."""
    size = load(name)[0].BASE_BATCH_SIZE
    spent: dict[int, list[float]] = {0: [], size: []}
    for _ in range(5):
        for grows, values in spent.items():
            start = time.process_time()
            train(name, "cosine", size, 1e-6, 0.25, 0, size // 2, grows)
            values.append(time.process_time() - start)
    return min(spent[size]) / min(spent[0])


def measure_times(name: str) -> tuple[dict[Micro, float], float]:
    """Return the seconds of all steps of a task, and what the monitor costs."""
    base = load(name)[0].BASE_BATCH_SIZE
    sizes = [round(base * factor) for factor in FACTORS]
    micro = sizes[0] // 2
    micros = [(size, 1) for size in sizes]
    micros += [(micro, size // micro) for size in (*sizes, 2 * sizes[-1])]
    return time_loop(load(name)[0], "memory", micros, is_scheduled=True)[0], measure_monitor(name)


def read_found() -> dict[str, Any]:
    """Return what was found before; nothing at first."""
    path = HERE / "results" / "schedule_gain.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))["results"] if path.exists() else {}
    return found


def main() -> None:
    """Measure all tasks, or those that are named beside what was found before."""
    torch.set_num_threads(1)
    asked = sys.argv[1:] or [*EPOCHS]
    found = read_found()
    cells = [cell for cell in found.get("cells", ()) if cell["task"] not in asked]
    seconds: dict[str, dict[str, float]] = found.get("step_seconds", {})
    costs: dict[str, float] = found.get("time_with_monitor_over_without", {})
    with ProcessPoolExecutor(WORKERS, get_context("forkserver")) as pool:
        for name in asked:
            times, costs[name] = measure_times(name)
            seconds[name] = to_text(times)
            cells += pool.map(functools.partial(measure_cell, name, times=times), KINDS)
            write_results(
                "schedule_gain",
                {
                    "epochs": EPOCHS,
                    "lengths": LENGTHS,
                    "seeds": SEEDS,
                    "measured_every": EVERY,
                    "step_seconds": seconds,
                    "time_with_monitor_over_without": costs,
                    "cells": cells,
                },
            )


if __name__ == "__main__":
    main()
