"""Trains a batch that grows and a constant one, each in branches of several lengths."""

import itertools
import math
import time
from collections.abc import Callable

from msgspec.structs import replace

from advisor.engine.worker.emitter import Emit
from advisor.growth.data import GrowthBranch, GrowthTask, Legs, find_cosine
from advisor.memory.measure import catch_out_of_memory
from advisor.rate.measure import (
    apply_settings,
    choose_evaluation_samples,
    evaluate,
    make_rate_setter,
    open_for_training,
    train_on,
)
from advisor.training.model_file.order import IndexStream, seed_everything
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Observer, Step
from advisor.training.schedule import list_rates
from advisor.training.training import Training


def run(task: GrowthTask, emit: Emit[GrowthBranch]) -> None:
    """Emit a GrowthBranch for each seed and course of legs."""
    workload, take = open_for_training(task.workload)
    chosen, trial = choose_evaluation_samples(workload.batches.sampling_size), task.trial
    started = time.perf_counter()
    courses = [(True, legs) for legs in task.growing] + [(False, legs) for legs in task.constant]
    for seed, (is_growing, legs) in itertools.product(trial.seeds, courses):
        if time.perf_counter() - started > trial.budget_s:
            return
        seed_everything(seed)
        with catch_out_of_memory() as failure:
            training = workload.make_training()
            _train(workload, training, task, legs, seed)
            loss = evaluate(workload, training, chosen, trial.evaluation_batch_size, take)
            del training  # beside the next one there may be no room for it
        if failure:
            return
        branch = GrowthBranch(
            is_growing=is_growing,
            legs=legs,
            rate_course=task.rate_course,
            learning_rate=trial.learning_rate,
            seed=seed,
            loss=loss if math.isfinite(loss) else None,
        )
        emit(branch)


class _CourseRate(Observer):
    """Sets the rate of each step by the samples of the branch before it: the last still moves."""

    def __init__(self, training: Training, find_rate: Callable[[float], float], samples: int):
        self._set_rate, self._find_rate = make_rate_setter(training), find_rate
        self._samples, self._taken = samples, 0
        self.ratio = 1.0

    def before_step(self, step: Step) -> None:
        """Set it, times the ratio of the leg."""
        self._set_rate(self.ratio * self._find_rate(self._taken / self._samples))
        self._taken += step.samples


def _train(workload: Workload, training: Training, task: GrowthTask, legs: Legs, seed: int) -> None:
    """Train one branch from the state that `training` is in."""
    samples = sum(leg.samples for leg in legs)
    apply_settings(training, task.trial)
    find_rate = _plan_rate(workload, training, task, samples // legs[0].global_batch_size)
    rate = _CourseRate(training, find_rate, samples)
    stream = IndexStream(workload.batches.sampling_size, seed=seed)
    for leg in legs:
        rate.ratio = leg.rate_ratio
        batch = replace(
            task.trial,
            micro_batch_size=leg.micro_batch_size,
            gradient_accumulation_steps=leg.gradient_accumulation_steps,
        )
        train_on(workload, training, batch, stream, [rate], leg.steps)


def _plan_rate(
    workload: Workload, training: Training, task: GrowthTask, steps: int
) -> Callable[[float], float]:
    """Return the rate at a share of a branch's samples, which are those of so many first steps."""
    rate = task.trial.learning_rate
    if task.rate_course == "legs":
        return lambda _: rate
    if task.rate_course == "cosine":
        return lambda share: rate * find_cosine(share)
    rates = list_rates(
        lambda count: workload.make_scheduler(training, count), training.optimizer, steps
    )
    if rates is None:
        return lambda share: rate * min(1.0, (1.0 - share) / task.trial.decay_fraction)
    return lambda share: rates[int(share * steps)]
