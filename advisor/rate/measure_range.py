"""The range test: training at one batch while the rate rises from step to step.

The loss of each step's own batch is kept from before the update: it answers to the rates of the
steps before it.
"""

import math
import time
from collections.abc import Callable

import torch
from msgspec.structs import replace

from advisor.engine.worker.emitter import Emit
from advisor.errors import DeviceError
from advisor.rate.measure import make_rate_setter, train_on
from advisor.rate.range_data import LrRangeCurve, LrRangeTask
from advisor.rate.range_test import LossGuard
from advisor.training.device_failure import is_out_of_memory
from advisor.training.heap import keep_freed_memory
from advisor.training.model_file.foreign import parameters_in
from advisor.training.model_file.order import IndexStream, seed_everything
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Observer, Step
from advisor.training.training import Training

#: Steps that are timed and thrown away to tell how many the time allows; the first does not count.
_PILOT_STEPS = 4


def run(task: LrRangeTask, emit: Emit[LrRangeCurve]) -> None:
    """Emit one LrRangeCurve for each seed, all of as many steps as the time allows; none of few."""
    workload = Workload(task.workload)
    keep_freed_memory(workload.device)
    deadline = time.perf_counter() + task.budget_s
    try:
        steps = _choose_steps(workload, task)
        for seed in task.seeds if steps >= task.least_steps else ():
            if time.perf_counter() > deadline:
                return
            emit(_follow_curve(workload, task, seed, steps, deadline))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"a training step at micro-batch {task.micro_batch_size} does not fit in memory",
            next_step="Give a smaller --global-batch-size, or split it with a smaller "
            "--micro-batch-size; `bsadvisor probe` finds the largest that fits.",
        ) from error


def _choose_steps(workload: Workload, task: LrRangeTask) -> int:
    """Return the steps of each curve: those asked for, or fewer where the time does not suffice."""
    started = time.perf_counter()
    seed_everything(task.seeds[0])
    training = workload.make_training()
    flat = replace(task, high_rate=task.low_rate)
    pilot = RisingRate(make_rate_setter(training), flat, _PILOT_STEPS, math.inf)
    stream = IndexStream(workload.batches.sampling_size, seed=task.seeds[0])
    train_on(workload, training, task, stream, [pilot], _PILOT_STEPS)
    if len(pilot.ended_s) < 2:
        return task.steps  # it breaks at once, as the curves will
    step_s = (pilot.ended_s[-1] - pilot.ended_s[0]) / (len(pilot.ended_s) - 1)
    left_s = task.budget_s - (pilot.ended_s[-1] - started)
    return min(task.steps, int(left_s / len(task.seeds) / step_s))


def _follow_curve(
    workload: Workload, task: LrRangeTask, seed: int, steps: int, deadline: float
) -> LrRangeCurve:
    seed_everything(seed)
    training = workload.make_training()
    rising = RisingRate(make_rate_setter(training), task, steps, deadline)
    stream = IndexStream(workload.batches.sampling_size, seed=seed)
    try:
        train_on(workload, training, task, stream, [rising], steps)
    except Exception as error:
        if is_out_of_memory(error) or _is_finite(training):
            raise
        # The user's code refuses what has diverged already.
        rising.losses.append(None)
        rising.has_diverged = True
    return rising.make_curve(task, seed, steps)


class RisingRate(Observer):
    """Raises the rate by one factor with each step and keeps the losses, until they diverge.

    Of several ranks the first one leads: it ends the range.
    """

    def __init__(
        self,
        set_rate: Callable[[float], None],
        task: LrRangeTask,
        steps: int,
        deadline: float,
        *,
        leads: bool = True,
    ) -> None:
        self._low, self._leads = task.low_rate, leads
        self._factor = (task.high_rate / task.low_rate) ** (1.0 / (steps - 1))
        self._loss_is_sum, self._deadline = task.loss_is_sum, deadline
        self._set_rate, self._guard = set_rate, LossGuard()
        self.losses: list[float | None] = []
        self.ended_s: list[float] = []
        self.has_diverged = False

    def find_rate(self, step: int) -> float:
        """Return the rate of a step, counted from 0."""
        return self._low * float(self._factor**step)

    def make_curve(self, task: LrRangeTask, seed: int, steps: int) -> LrRangeCurve:
        """Return what was seen, of so many steps in all."""
        ended = len(self.losses) == steps
        return LrRangeCurve(
            micro_batch_size=task.micro_batch_size,
            gradient_accumulation_steps=task.gradient_accumulation_steps,
            global_batch_size=task.global_batch_size,
            steps=steps,
            seed=seed,
            rates=tuple(self.find_rate(step) for step in range(len(self.losses))),
            losses=tuple(self.losses),
            stopped_by="divergence" if self.has_diverged else "range" if ended else "budget",
        )

    def before_step(self, step: Step) -> None:
        """Set the step's rate."""
        self._set_rate(self.find_rate(step.number - 1))

    def after_step(self, step: Step) -> bool:
        """Keep the loss of the whole batch; return whether it and the time allow another step."""
        loss = math.fsum(map(float, step.losses)) if step.losses else math.nan
        loss /= 1.0 if self._loss_is_sum else float(step.micro_batches)
        self.losses.append(loss if math.isfinite(loss) else None)
        self.ended_s.append(time.perf_counter())
        self.has_diverged = self._guard.is_beyond(loss)
        is_over = self.has_diverged or self.ended_s[-1] > self._deadline
        return not (self._leads and is_over)


def _is_finite(training: Training) -> bool:
    return all(bool(torch.isfinite(p).all()) for p in parameters_in(training.model))
