"""Six real trainings: to their target with any batch and rate, and what the tool advises."""

import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.nn import functional

TASKS = Path(__file__).parent / "tasks"
SEEDS = (100, 101, 102)  # none that the tool's own trial uses
RATE_STEP = math.sqrt(2.0)
#: Passes over the dataset after which a run counts as not reaching the target.
MOST_EPOCHS = 60
#: Steps of a run over those of the best rate at its batch, from which on it is given up.
MOST_OVER_BEST = 2.0
#: Samples between two looks at the loss, where a step takes fewer.
LOOK_SAMPLES = 256
#: Samples of the training set on which the loss is looked at.
LOOKED_AT = 2048

Pair = dict[str, Any]


def list_tasks() -> list[str]:
    """Return the names of all tasks."""
    return sorted(path.stem for path in TASKS.glob("*.py"))


def load_task(name: str) -> ModuleType:
    """Return the module of a task."""
    spec = importlib.util.spec_from_file_location(name, TASKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compute_loss(model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> Any:
    """Return cross-entropy for integer targets, else the mean squared error."""
    if targets.is_floating_point():
        return functional.mse_loss(model(inputs), targets)
    return functional.cross_entropy(model(inputs), targets)


def steps_to_target(name: str, pair: Pair, most_steps: float, seed: int) -> int | None:
    """Return the steps until the training loss is at the target, None where it never is."""
    torch.set_num_threads(1)
    task = load_task(name)
    inputs, targets = task.make_dataset().tensors
    torch.manual_seed(seed)
    model = task.make_model()
    optimizer = make_optimizer(task, model, pair)
    size = pair["batch"]
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    shown = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))[:LOOKED_AT]
    look = max(1, LOOK_SAMPLES // size)
    for step in range(1, int(min(MOST_EPOCHS * len(inputs) // size, most_steps)) + 1):
        while len(order) < size:
            order = torch.cat([order, torch.randperm(len(inputs), generator=generator)])
        chosen, order = order[:size], order[size:]
        compute_loss(model, inputs[chosen], targets[chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % look == 0:
            with torch.no_grad():
                loss = float(compute_loss(model, inputs[shown], targets[shown]))
            if loss <= task.TARGET_LOSS:
                return step
            if not math.isfinite(loss):
                return None
    return None


def make_optimizer(task: ModuleType, model: torch.nn.Module, pair: Pair) -> torch.optim.Optimizer:
    """Return the task's optimizer with what the pair sets."""
    optimizer: torch.optim.Optimizer = task.make_optimizer(model, lr=pair["rate"])
    for group in optimizer.param_groups:
        if pair.get("beta2") is not None:
            group["betas"] = (group["betas"][0], pair["beta2"])
        if pair.get("weight_decay") is not None:
            group["weight_decay"] = pair["weight_decay"]
    return optimizer


class Trainer:
    """Trains pairs of one task, each once, two at a time."""

    def __init__(self, name: str, pool: ProcessPoolExecutor, seeds: Sequence[int] = SEEDS) -> None:
        self.name = name
        self._pool = pool
        self._seeds = seeds
        self._known: dict[str, float | None] = {}

    def mean_steps(self, pair: Pair, most_steps: float = math.inf) -> float | None:
        """Return the mean steps over all seeds, None where one misses the target."""
        key = json.dumps(pair, sort_keys=True)
        if key in self._known:
            return self._known[key]
        run = partial(steps_to_target, self.name, pair, most_steps)
        found = list(self._pool.map(run, self._seeds))
        known = [steps for steps in found if steps is not None]
        mean = statistics.fmean(known) if len(known) == len(found) else None
        if mean is not None or math.isinf(most_steps):
            self._known[key] = mean
        return mean

    def climb(
        self, size: int, rate: float, most_steps: float = math.inf
    ) -> tuple[float, float] | None:
        """Return the best rate for a batch and its steps, from a rate near it."""

        def measure(power: int, best: float) -> float:
            pair = {"batch": size, "rate": rate * RATE_STEP**power}
            return self.mean_steps(pair, min(MOST_OVER_BEST * best, most_steps)) or math.inf

        best, index = measure(0, math.inf), 0
        for direction in (1, -1):
            misses, at = 0, index
            while misses < 2 and abs(at) <= 12:
                at += direction
                steps = measure(at, best)
                misses = 0 if steps < best else misses + 1
                if steps < best:
                    best, index = steps, at
        return None if math.isinf(best) else (rate * RATE_STEP**index, best)


def ask_the_tool(
    name: str, rate: float, steps: int, *options: str
) -> tuple[Pair | None, dict[str, Any]]:
    """Return what `bsadvisor probe` advises from the base rate, and all that it concluded."""
    done = subprocess.run(
        [
            sys.executable, "-m", "advisor.cli", "probe", str(TASKS / f"{name}.py"),
            "--set", f"lr={rate!r}", "--noise-steps", str(steps), "--json", "-", "--quiet",
            *options,
        ],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    derived = json.loads(done.stdout)["derived"]
    advice = derived["recommendation"]
    if advice["learning_rate"]["value"] is None:
        return None, derived
    return {
        "batch": advice["global_batch_size"],
        "rate": advice["learning_rate"]["value"],
        **{key: advice["optimizer_changes"][key] for key in ("beta2", "weight_decay")},
    }, derived
