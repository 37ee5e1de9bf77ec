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
from advisor.rate.measure import RateCourse, make_rate_setter, train_on
from advisor.rate.range_data import LrRangeCurve, LrRangeTask
from advisor.rate.range_test import LossGuard
from advisor.training.device_failure import is_out_of_memory
from advisor.training.heap import keep_freed_memory
from advisor.training.model_file.foreign import parameters_in
from advisor.training.model_file.order import IndexStream, seed_everything
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Step

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
            emit(_train(workload, task, seed, steps, deadline).make_curve(seed))
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
    flat = replace(task, high_rate=task.low_rate)
    ended_s = _train(workload, flat, task.seeds[0], _PILOT_STEPS, math.inf).ended_s
    if len(ended_s) < 2:
        return task.steps  # it breaks at once, as the curves will
    step_s = (ended_s[-1] - ended_s[0]) / (len(ended_s) - 1)
    left_s = task.budget_s - (ended_s[-1] - started)
    return min(task.steps, int(left_s / len(task.seeds) / step_s))


def _train(
    workload: Workload, task: LrRangeTask, seed: int, steps: int, deadline: float
) -> "RisingRate":
    """Return what was seen from this seed; the user's code may refuse what has diverged."""
    seed_everything(seed)
    training = workload.make_training()
    rising = RisingRate(make_rate_setter(training), task, steps, deadline)
    stream = IndexStream(workload.batches.sampling_size, seed=seed)
    try:
        train_on(workload, training, task, stream, [rising], steps)
    except Exception as error:
        values = parameters_in(training.model)
        if is_out_of_memory(error) or all(bool(torch.isfinite(each).all()) for each in values):
            raise
        rising.losses.append(None)
        rising.has_diverged = True
    return rising


class RisingRate(RateCourse):
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
        factor = (task.high_rate / task.low_rate) ** (1.0 / (steps - 1))
        super().__init__(set_rate, lambda step: task.low_rate * float(factor ** (step - 1)))
        self._task, self._steps, self._deadline, self._leads = task, steps, deadline, leads
        self._guard = LossGuard()
        self.losses: list[float | None] = []
        self.ended_s: list[float] = []
        self.has_diverged = False

    def make_curve(self, seed: int) -> LrRangeCurve:
        """Return what was seen."""
        task, ended = self._task, len(self.losses) == self._steps
        return LrRangeCurve(
            micro_batch_size=task.micro_batch_size,
            gradient_accumulation_steps=task.gradient_accumulation_steps,
            global_batch_size=task.global_batch_size,
            steps=self._steps,
            seed=seed,
            rates=tuple(self.rate_at(1 + step) for step in range(len(self.losses))),
            losses=tuple(self.losses),
            stopped_by="divergence" if self.has_diverged else "range" if ended else "budget",
        )

    def after_step(self, step: Step) -> bool:
        """Keep the loss of the whole batch; return whether it and the time allow another step."""
        loss = math.fsum(map(float, step.losses)) if step.losses else math.nan
        loss /= 1.0 if self._task.loss_is_sum else float(step.micro_batches)
        self.losses.append(loss if math.isfinite(loss) else None)
        self.ended_s.append(time.perf_counter())
        self.has_diverged = self._guard.is_beyond(loss)
        is_over = self.has_diverged or self.ended_s[-1] > self._deadline
        return not (self._leads and is_over)
