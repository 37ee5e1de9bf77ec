"""Trials on the user's own script: one start at one batch and rate, and its own training loss.

The rate that the script sets, schedule included, is multiplied by one factor; in the end it falls.
"""

import math
import time

import torch
from msgspec.structs import replace
from torch import Tensor

from advisor.engine.worker.emitter import Emitter
from advisor.rate.data import Evaluation, LrRangeTask, TrialBranch, TrialTask
from advisor.rate.measure import FallingRate, apply_other_settings
from advisor.rate.measure_range import RisingRate
from advisor.statistics import median
from advisor.training.observer import Observer, Step
from advisor.training.out_of_memory import is_out_of_memory
from advisor.training.script.arguments import fill_batch
from advisor.training.script.rate import RateFactor
from advisor.training.script.running import ScriptRun


class RunningLoss(Observer):
    """Means of the training loss over windows of steps, each at the samples of its middle.

    Attributes:
        evaluations: The first step's own loss, before it, then one for each window.
        diverged: Whether a loss was not finite.
    """

    def __init__(self, task: TrialTask, *, every: int, divides: bool) -> None:
        self.evaluations: list[Evaluation] = []
        self.diverged = False
        self._every, self._divides = every, divides
        self._divisor = task.global_batch_size if task.loss_is_sum else 1
        self._losses: list[Tensor] = []
        self._steps = 0
        self._variances: list[float] = []

    @property
    def deviation(self) -> float:
        """Standard deviation of a step's loss within a window, in the middle of all windows."""
        return math.sqrt(median(self._variances)) if self._variances else 0.0

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


class _Settings(Observer):
    """Sets what goes with the task's rate before the first step."""

    def __init__(self, task: TrialTask) -> None:
        self._task = task

    def before_step(self, step: Step) -> None:
        """Set it, once."""
        if step.number == 1 and step.optimizer is not None:
            apply_other_settings(step.optimizer, self._task)


def run(task: TrialTask, emit: Emitter) -> None:
    """Emit the TrialBranch of the first seed and length, and end the process."""
    script_spec, (seed, *_) = task.workload.script, task.seeds
    assert script_spec is not None
    size = task.global_batch_size
    steps = max(1, task.samples // size)
    losses = RunningLoss(
        task, every=math.ceil(steps / task.evaluations), divides=script_spec.divides_loss
    )
    factor = RateFactor(task.learning_rate, task.warmup_steps)
    constant = steps - max(1, round(task.decay_fraction * steps))
    falling = FallingRate(factor.set_rate, task.learning_rate, constant, steps)
    filling = fill_batch(script_spec, task.micro_batch_size, task.gradient_accumulation_steps)
    script = ScriptRun(
        task.workload,
        emit,
        observers=[falling, _Settings(task), losses],
        samples=task.micro_batch_size,
        accumulation=task.gradient_accumulation_steps,
        filling=filling.with_start(seed, task.learning_rate),
        most_steps=steps,
    )
    factor.attach(script.stream)

    def finish() -> None:
        emit(
            TrialBranch(
                micro_batch_size=task.micro_batch_size,
                gradient_accumulation_steps=task.gradient_accumulation_steps,
                global_batch_size=size,
                learning_rate=task.learning_rate,
                seed=seed,
                samples=script.stream.count * size,
                evaluations=tuple(losses.evaluations),
                diverged=losses.diverged,
                deviation=losses.deviation,
                beta2=task.beta2,
                weight_decay=task.weight_decay,
                warmup_steps=task.warmup_steps if factor.warms_up else None,
                decays_from=constant * size if task.decay_fraction else None,
            )
        )

    try:
        script.follow(finish)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        emit.stop()


class _Rising(Observer):
    """Sets the rates of a range on another rank than the first, for as long as that goes on."""

    def __init__(self, rising: RisingRate) -> None:
        self._rising = rising

    def before_step(self, step: Step) -> None:
        """Set the step's rate."""
        self._rising.before_step(step)


def run_range(task: LrRangeTask, emit: Emitter) -> None:
    """Emit the LrRangeCurve of the first seed, of its own training loss, and end the process.

    Of several ranks the first one's loss is that of its part of each batch, and it ends the range.
    """
    script_spec, (seed, *_) = task.workload.script, task.seeds
    assert script_spec is not None
    factor = RateFactor(task.low_rate)
    deadline = time.perf_counter() + task.budget_s
    rising = RisingRate(factor.set_rate, task, task.steps, deadline)
    observer = _Rising(rising) if emit.goes_on else rising
    filling = fill_batch(script_spec, task.micro_batch_size, task.gradient_accumulation_steps)
    script = ScriptRun(
        task.workload,
        emit,
        observers=[observer],
        samples=task.micro_batch_size,
        accumulation=task.gradient_accumulation_steps,
        filling=replace(filling, seed=seed),
        most_steps=task.steps,
    )
    factor.attach(script.stream)
    script.follow(lambda: emit(rising.make_curve(task, seed, task.steps)))
