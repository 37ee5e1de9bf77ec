"""Trains a batch that grows and a constant one, each in branches of several lengths."""

import math
import time
from collections.abc import Callable

from advisor.engine.worker.emitter import Emit
from advisor.growth.data import GrowthBranch, GrowthTask, Leg, Legs, find_cosine
from advisor.memory.measure import catch_out_of_memory
from advisor.rate.data import TrialTask
from advisor.rate.measure import (
    apply_settings,
    choose_evaluation_samples,
    evaluate,
    make_rate_setter,
    open_for_training,
    train_on,
)
from advisor.training.model_file.order import IndexStream
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Observer, Step
from advisor.training.schedule import list_rates
from advisor.training.seeds import seed_everything
from advisor.training.training import Training


def run(task: GrowthTask, emit: Emit[GrowthBranch]) -> None:
    """Emit a GrowthBranch for each seed and course of legs."""
    workload, take = open_for_training(task.workload)
    chosen = choose_evaluation_samples(workload.batches.sampling_size)
    started = time.perf_counter()
    courses = [(True, legs) for legs in task.growing] + [(False, legs) for legs in task.constant]
    for seed in task.seeds:
        for is_growing, legs in courses:
            if time.perf_counter() - started > task.budget_s:
                return
            seed_everything(seed)
            with catch_out_of_memory() as failure:
                training = workload.make_training()
                _train(workload, training, task, legs, seed)
                loss = evaluate(workload, training, chosen, task.evaluation_batch_size, take)
            if failure:
                return
            emit(
                GrowthBranch(
                    is_growing=is_growing,
                    legs=legs,
                    rate_course=task.rate_course,
                    learning_rate=task.learning_rate,
                    seed=seed,
                    loss=loss if math.isfinite(loss) else None,
                )
            )


class _LegRate(Observer):
    """Sets the rate of each step of a leg.

    Args:
        set_rate: Of the optimizer.
        find_rate: The rate at a share of the branch's samples, beside the leg's ratio.
        leg: That is trained.
        began: Samples of the branch before it, and in all.
    """

    def __init__(
        self,
        set_rate: Callable[[float], None],
        find_rate: Callable[[float], float],
        leg: Leg,
        began: tuple[int, int],
    ) -> None:
        self._set_rate, self._find_rate, self._leg = set_rate, find_rate, leg
        self._before, self._samples = began

    def before_step(self, step: Step) -> None:
        """Set it by the samples before the step: the last one still moves."""
        taken = self._before + (step.number - 1) * step.samples
        self._set_rate(self._leg.rate_ratio * self._find_rate(taken / self._samples))


def _train(workload: Workload, training: Training, task: GrowthTask, legs: Legs, seed: int) -> None:
    """Train one branch from the state that `training` is in."""
    samples, taken = sum(leg.samples for leg in legs), 0
    apply_settings(training, _make_trial(task, legs[0]))
    find_rate = _plan_rate(workload, training, task, samples // legs[0].global_batch_size)
    set_rate = make_rate_setter(training)
    stream = IndexStream(workload.batches.sampling_size, seed=seed)
    for leg in legs:
        rate = _LegRate(set_rate, find_rate, leg, (taken, samples))
        train_on(workload, training, _make_trial(task, leg), stream, [rate], leg.steps)
        taken += leg.samples


def _make_trial(task: GrowthTask, leg: Leg) -> TrialTask:
    """Return the leg as a trial of a constant batch."""
    return TrialTask(
        workload=task.workload,
        micro_batch_size=leg.micro_batch_size,
        gradient_accumulation_steps=leg.gradient_accumulation_steps,
        seeds=task.seeds,
        loss_is_sum=task.loss_is_sum,
        learning_rate=task.learning_rate,
        beta2=task.beta2,
        weight_decay=task.weight_decay,
        samples=leg.samples,
    )


def _plan_rate(
    workload: Workload, training: Training, task: GrowthTask, steps: int
) -> Callable[[float], float]:
    """Return the rate at a share of a branch's samples, which are those of so many first steps."""
    rate = task.learning_rate
    if task.rate_course == "legs":
        return lambda _: rate
    if task.rate_course == "cosine":
        return lambda share: rate * find_cosine(share)
    rates = list_rates(
        lambda count: workload.make_scheduler(training, count), training.optimizer, steps
    )
    if rates is None:
        return lambda share: rate * min(1.0, (1.0 - share) / task.decay_fraction)
    return lambda share: rates[int(share * steps)]
