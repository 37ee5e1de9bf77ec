"""Trials on the user's own script: one start at one batch and rate, and its own training loss.

The rate that the script sets, schedule included, is multiplied by one factor; in the end it falls.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from msgspec.structs import replace
from torch import Tensor

from advisor.engine.worker.emitter import Emitter
from advisor.memory.measure import catch_out_of_memory
from advisor.rate.data import BranchTask, Evaluation, TrialTask
from advisor.rate.measure import RateCourse, apply_other_settings, fall_from
from advisor.rate.measure_range import RisingRate
from advisor.rate.range_data import LrRangeTask
from advisor.statistics import median
from advisor.training.observer import Observer, Step
from advisor.training.script.arguments import fill_batch
from advisor.training.script.rate import RateFactor
from advisor.training.script.running import ScriptRun


class RunningLoss(Observer):
    """Means of the training loss over windows of steps, each at the samples of its middle.

    The first step's own loss comes before them. It sets what goes with the task's rate as well.
    """

    def __init__(self, task: TrialTask, *, every: int) -> None:
        script = task.workload.script
        self.evaluations: list[Evaluation] = []
        self.diverged, self._task = False, task
        self._every, self._divides = every, script is not None and script.divides_loss
        self._divisor = task.global_batch_size if task.loss_is_sum else 1
        self._losses: list[Tensor] = []
        self._steps = 0
        self._variances: list[float] = []

    @property
    def deviation(self) -> float:
        """Standard deviation of a step's loss within a window, in the middle of all windows."""
        return math.sqrt(median(self._variances)) if self._variances else 0.0

    def before_step(self, step: Step) -> None:
        """Set it, once."""
        if step.number == 1 and step.optimizer is not None:
            apply_other_settings(step.optimizer, self._task)

    def after_step(self, step: Step) -> bool:
        """Take in the loss; return whether all are finite."""
        if step.losses:
            total = torch.stack([loss.float().reshape(()) for loss in step.losses]).sum()
            self._losses.append(total if self._divides else total / len(step.losses))
        self._steps += 1
        if step.number == 1:
            self._keep(0, self._losses)
        if self._steps == self._every:
            first = step.number - self._steps
            middle = first + (self._steps - 1) / 2.0
            self._keep(round(middle * step.samples), self._losses)
            self._losses, self._steps = [], 0
        return not self.diverged

    def _keep(self, samples: int, losses: list[Tensor]) -> None:
        if not losses:
            return
        values = torch.stack(losses).double() / self._divisor
        loss = float(values.mean())
        if math.isfinite(loss):
            self.evaluations.append(Evaluation(samples=samples, loss=loss))
            self._variances += [float(values.var())] if len(losses) > 1 else []
        else:
            self.diverged = True


def _start(
    task: BranchTask[Any],
    emit: Emitter,
    factor: RateFactor,
    observers: Sequence[Observer],
    most_steps: int,
    **told: float | None,
) -> ScriptRun:
    """Return the script from the task's first seed, and what else its command line is told."""
    assert task.workload.script is not None
    filling = fill_batch(task.workload.script, *task.split)
    script = ScriptRun(
        task.workload,
        emit,
        observers=observers,
        samples=task.micro_batch_size,
        accumulation=task.gradient_accumulation_steps,
        filling=replace(filling, seed=task.seeds[0], **told),
        most_steps=most_steps,
    )
    factor.attach(script.stream)
    return script


def run(task: TrialTask, emit: Emitter) -> None:
    """Emit the TrialBranch of the first seed and length, and end the process."""
    size = task.global_batch_size
    steps = max(1, task.samples // size)
    losses = RunningLoss(task, every=math.ceil(steps / task.evaluations))
    assert task.workload.script is not None
    follows = task.workload.script.stretches_schedule and task.decay_fraction > 0.0
    factor = RateFactor(task.learning_rate, 0 if follows else task.warmup_steps)
    constant = 0 if follows else steps - max(1, round(task.decay_fraction * steps))
    falling = RateCourse(factor.set_rate, fall_from(task.learning_rate, constant, steps))
    observers = [*([] if follows else [falling]), losses]
    told = {"learning_rate": task.learning_rate, "steps": steps if follows else None}
    script = _start(task, emit, factor, observers, steps, **told)

    def finish() -> None:
        branch = task.make_branch(
            seed=task.seeds[0],
            samples=script.stream.count * size,
            evaluations=tuple(losses.evaluations),
            diverged=losses.diverged,
            deviation=losses.deviation,
            warmup_steps=task.warmup_steps if factor.warms_up else None,
            decays_from=constant * size if task.decay_fraction else None,
        )
        emit(branch)

    with catch_out_of_memory():
        script.follow(finish)
    emit.stop()


def run_range(task: LrRangeTask, emit: Emitter) -> None:
    """Emit the LrRangeCurve of the first seed, of its own training loss, and end the process.

    Of several ranks the first one's loss is that of its part of each batch.
    """
    factor, deadline = RateFactor(task.low_rate), time.perf_counter() + task.budget_s
    rising = RisingRate(factor.set_rate, task, task.steps, deadline, leads=not emit.goes_on)
    script = _start(task, emit, factor, [rising], task.steps)
    script.follow(lambda: emit(rising.make_curve(task.seeds[0])))
