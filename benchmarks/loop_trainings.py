"""Real trainings of one pair from several seeds at once: loss curves, ends, steps to a loss.

Batches are what any of the loops gives: full ones of a fresh permutation each epoch. How many steps
a pair takes does not depend on where its batches come from, so they are cut from memory.
"""

import functools
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from loops import make_scheduler
from training_tasks import TASKS, compute_loss, load_task

ROOT = TASKS.parent.parent
#: Steps between two looks at the loss over the steps so far; looks that are averaged at each.
LOOK_FRACTION, SMOOTHED_LOOKS = 0.05, 7
#: How far a curve goes on beyond the step that counts, so that looks on both sides are averaged.
BEYOND = 1.2
#: Samples on which the loss is looked at along a curve, and at an end.
LOOK_SAMPLES, END_SAMPLES = 512, 2048
#: Factor between two lengths of a schedule that are tried.
LENGTH_FACTOR = 1.3
LEAST_LENGTH = 4
DRAWS = 400

Pair = dict[str, Any]


class Curve(NamedTuple):
    """Log losses at steps, one column for each seed; infinite where one diverged."""

    steps: np.ndarray
    logs: np.ndarray

    def smooth(self, columns: Sequence[int] | None = None) -> np.ndarray:
        """Return the mean over seeds (those of a draw) and over neighbouring looks."""
        mean = self.logs.mean(1) if columns is None else self.logs[:, columns].mean(1)
        half = SMOOTHED_LOOKS // 2
        return np.array([mean[max(0, i - half) : i + half + 1].mean() for i in range(len(mean))])

    def level_at(self, step: float, columns: Sequence[int] | None = None) -> float:
        """Return the smooth log loss at a step."""
        return float(np.interp(step, self.steps, self.smooth(columns)))

    def steps_to(self, level: float, columns: Sequence[int] | None = None) -> float:
        """Return the steps at which the smooth curve first is at the level; infinite if never."""
        smooth = self.smooth(columns)
        below = np.flatnonzero(smooth <= level)
        if not len(below):
            return math.inf
        at = int(below[0])
        if at == 0:
            return float(self.steps[0])
        share = (smooth[at - 1] - level) / (smooth[at - 1] - smooth[at])
        return float(self.steps[at - 1] + share * (self.steps[at] - self.steps[at - 1]))


@functools.cache
def load(name: str) -> ModuleType:
    """Return a task, once for a process; `digits` is the example."""
    if name != "digits":
        return load_task(name)
    return load_task(str(ROOT / "examples" / "digits"))


@functools.cache
def load_data(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return inputs, targets and the fixed order in which losses are looked at."""
    inputs, targets = load(name).make_dataset().tensors
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    return inputs, targets, order


class Training:
    """One pair from one seed."""

    def __init__(self, name: str, pair: Pair, seed: int, total_steps: int | None) -> None:
        task = load(name)
        self._inputs, self._targets, self._shown = load_data(name)
        torch.manual_seed(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._model = task.make_model()
        self._optimizer = task.make_optimizer(self._model)
        for group in self._optimizer.param_groups:
            group["lr"] = pair["rate"]
            if pair.get("beta2") is not None:
                group["betas"] = (group["betas"][0], pair["beta2"])
            if pair.get("weight_decay") is not None:
                group["weight_decay"] = pair["weight_decay"]
        self._scheduler = total_steps and make_scheduler(self._optimizer, total_steps)
        self._size = pair["batch"]
        self._order: list[torch.Tensor] = []

    def step(self) -> None:
        """Take one optimizer step."""
        if not self._order:
            order = torch.randperm(len(self._inputs), generator=self._generator)
            self._order = list(order[: len(order) // self._size * self._size].split(self._size))
        chosen = self._order.pop()
        compute_loss(self._model, self._inputs[chosen], self._targets[chosen]).backward()
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._scheduler:
            self._scheduler.step()

    def look(self, samples: int) -> float:
        """Return the log loss on the first of a fixed order of the samples."""
        shown = self._shown[:samples]
        with torch.no_grad():
            loss = float(compute_loss(self._model, self._inputs[shown], self._targets[shown]))
        return math.log(loss) if 0.0 < loss < math.inf else math.inf


def train_curve(
    name: str, pair: Pair, seeds: Sequence[int], most_steps: float, level: float = -math.inf
) -> Curve:
    """Return the curve at a constant rate, to somewhat beyond a log loss or to the most steps."""
    torch.set_num_threads(1)
    runs = [Training(name, pair, seed, None) for seed in seeds]
    steps, logs, done, reached = [0], [[run.look(LOOK_SAMPLES) for run in runs]], 0, None
    while done < most_steps:
        count = max(1, round(LOOK_FRACTION * done))
        for run in runs:
            for _ in range(count):
                run.step()
        done += count
        steps.append(done)
        logs.append([run.look(LOOK_SAMPLES) for run in runs])
        if not all(map(math.isfinite, logs[-1])):
            break
        if reached is None and np.mean(logs[-SMOOTHED_LOOKS:]) <= level:
            reached = done
        if reached is not None and done > BEYOND * reached:
            break
    return Curve(np.array(steps), np.array(logs))


def train_to_end(name: str, pair: Pair, seeds: Sequence[int], total_steps: int) -> np.ndarray:
    """Return the log loss of each seed at the end of warm-up and cosine."""
    torch.set_num_threads(1)
    ends = []
    for seed in seeds:
        run = Training(name, pair, seed, total_steps)
        for _ in range(total_steps):
            run.step()
        ends.append(run.look(END_SAMPLES))
    return np.array(ends)


def find_length(
    train: Callable[[int], np.ndarray], level: float, guess: float, most_steps: float
) -> dict[int, np.ndarray]:
    """Return the ends by length, from a guess on, until they lie on both sides of a level."""
    ends: dict[int, np.ndarray] = {}
    length = max(LEAST_LENGTH, round(min(guess, most_steps)))
    is_first_below = None
    while length not in ends:
        ends[length] = train(length)
        is_below = float(ends[length].mean()) <= level
        is_first_below = is_below if is_first_below is None else is_first_below
        following = length / LENGTH_FACTOR if is_first_below else length * LENGTH_FACTOR
        if is_below != is_first_below or not LEAST_LENGTH <= following <= most_steps:
            break
        length = round(following)
    return ends


def read_length(
    ends: dict[int, np.ndarray], level: float, columns: Sequence[int] | None = None
) -> float:
    """Return the length whose end is at the level, between the lengths tried; infinite if none."""
    lengths = sorted(ends)
    means = [
        float(ends[n].mean() if columns is None else ends[n][list(columns)].mean()) for n in lengths
    ]
    if columns is None and (min(means) > level or not math.isfinite(min(means))):
        return math.inf
    at = next((i for i, mean in enumerate(means) if mean <= level), len(means) - 1)
    if len(lengths) == 1:
        return float(lengths[0])
    at = max(at, 1)
    fall = means[at - 1] - means[at]
    if not math.isfinite(fall) or fall <= 0.0:
        return float(lengths[at])
    share = min(2.0, max(-1.0, (means[at - 1] - level) / fall))
    return float(lengths[at - 1] * (lengths[at] / lengths[at - 1]) ** share)


def draw_interval(seeds: int, ratio: Callable[[Sequence[int]], float]) -> tuple[float, float]:
    """Return the 2.5 and 97.5 % quantiles of a ratio when the seeds are drawn again."""
    generator = np.random.default_rng(0)
    draws = sorted(ratio(generator.integers(seeds, size=seeds).tolist()) for _ in range(DRAWS))
    return draws[round(0.025 * DRAWS)], draws[round(0.975 * DRAWS) - 1]
