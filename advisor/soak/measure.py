"""One soak: more training steps at one size than a probe runs, under the same enforced limit.

worst batch | step 1 | random batches: step 2 ... | evaluation | steps | copy of the state | ...
                       peak of training             peak of its own      peak of its own
"""

import gc
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from msgspec.structs import replace
from torch import nn

from advisor.engine.worker.emitter import Emit, Emitter
from advisor.engine.worker.failure import describe
from advisor.memory.data import find_largest
from advisor.memory.measure import (
    MESSAGE_LENGTH,
    OVER_LIMIT,
    PeakObserver,
    catch_out_of_memory,
    hold_output,
    prepare,
)
from advisor.memory.measure_limit import MemoryGauge
from advisor.memory.measure_script import follow_to_the_limit
from advisor.soak.data import Soak, SoakTask
from advisor.training.device_failure import is_out_of_memory
from advisor.training.devices import resolve_device, synchronise
from advisor.training.loop import train
from advisor.training.model_file.batches import map_tensors
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Step
from advisor.training.training import Training


class _SoakObserver(PeakObserver):
    """Sees the steps while there is time, and uses the pauses of a training of ours."""

    def __init__(self, gauge: MemoryGauge, task: SoakTask) -> None:
        super().__init__(gauge)
        self.training: Training | None = None
        self.evaluations = 0
        self.evaluation_peak_bytes: int | None = None
        self.reserve_peak_bytes: int | None = None
        self.failure: str | None = None
        self.why_not_evaluated: str | None = None
        self._task = task
        self._deadline_s = time.perf_counter() + task.budget_s

    def watch(self, workload: Workload, training: Training) -> None:
        """Use the pauses of this training."""
        self._workload, self.training = workload, training

    def after_step(self, step: Step) -> bool:
        """Do what is due after the step."""
        super().after_step(step)
        task, number = self._task, step.number
        is_last = number == task.steps or time.perf_counter() > self._deadline_s
        if self.training is not None:
            pause = math.ceil(task.steps / (task.evaluations + 1))
            may_evaluate = self.evaluations < task.evaluations and self.why_not_evaluated is None
            with catch_out_of_memory() as failure:
                if task.reserve and number == 2:  # the optimizer's state is there by now
                    self._copy_state(self.training)
                # Evenly, and at the end where none ran before.
                if may_evaluate and (number % pause == 0 or (is_last and not self.evaluations)):
                    self._evaluate(self.training)
            self.failure = failure[0] if failure else None
            self.begin()
        return not is_last and self.failure is None

    def _evaluate(self, training: Training) -> None:
        """Evaluate the worst batch once; a loss that needs training mode has a reason in place."""
        self.gauge.reset()
        try:
            with _in_evaluation_mode(training.model):
                size, largest = self._task.micro_batch_size, self._task.largest_samples
                training.evaluate(self._workload.take_worst(size, largest))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self.why_not_evaluated = f"no evaluation: {describe(error)}"[:MESSAGE_LENGTH]
            return
        synchronise(training.device)
        peak = self.gauge.peak_bytes()
        self.evaluation_peak_bytes = find_largest(self.evaluation_peak_bytes, peak)
        self.evaluations += 1

    def _copy_state(self, training: Training) -> None:
        """Copy the state of model and optimizer to the host and drop it, as a checkpoint does.

        The gradients and the last output are still held, as they are where a checkpoint is written.
        """
        self.gauge.reset()
        state = {"model": training.model.state_dict(), "optimizer": training.optimizer.state_dict()}
        copied = map_tensors(state, lambda tensor: tensor.detach().to("cpu", copy=True))
        self.reserve_peak_bytes = self.gauge.peak_bytes()
        del state, copied

    def conclude(self, failure: str | None) -> Soak:
        """Return what was seen, `fit` or `oom`, by what ended it."""
        peaks = (self.peak_bytes, self.evaluation_peak_bytes, self.reserve_peak_bytes)
        failure = failure or self.failure
        if failure is None and self.gauge.is_over(*peaks):
            failure = OVER_LIMIT
        return Soak(
            micro_batch_size=self._task.micro_batch_size,
            gradient_accumulation_steps=self._task.gradient_accumulation_steps,
            outcome="fit" if failure is None else "oom",
            steps=len(self.times_s),
            evaluations=self.evaluations,
            held_bytes=tuple(self.held_bytes),
            step_times_s=tuple(self.times_s),
            training_peak_bytes=peaks[0],
            evaluation_peak_bytes=peaks[1],
            reserve_peak_bytes=peaks[2],
            capacity_bytes=self._task.capacity_bytes,
            message=failure or self.why_not_evaluated,
        )


def run(task: SoakTask, emit: Emit[Soak]) -> None:
    """Emit one Soak."""
    workload, gauge = prepare(task, task.capacity_bytes)
    seen = _SoakObserver(gauge, task)
    with catch_out_of_memory() as caught:
        stepper = workload.make_stepper(task.micro_batch_size)
        hold_output(stepper)
        if isinstance(stepper, Training):  # a step of the user's own has no pauses
            seen.watch(workload, stepper)
        seen.begin()
        train(
            stepper,
            _draw_batches(workload, task),
            (seen,),
            micro_batch_size=task.micro_batch_size,
            accumulation=task.gradient_accumulation_steps,
        )
    if caught:
        seen.see_failure()
    if caught or seen.failure:
        gc.collect()
    emit(seen.conclude(caught[0] if caught else None))


def run_script(task: SoakTask, emit: Emitter) -> None:
    """Emit one Soak of the user's own script, and end the process."""
    gauge = MemoryGauge(resolve_device(task.workload.device), task.capacity_bytes)
    seen = _SoakObserver(gauge, task)

    def finish(failure: str | None) -> None:
        found = seen.conclude(failure)
        emit(replace(found, step_times_s=found.step_times_s[1:]))  # the first holds the start

    follow_to_the_limit(
        task.workload,
        emit,
        seen,
        finish,
        samples=task.micro_batch_size,
        accumulation=task.gradient_accumulation_steps,
        most_steps=task.steps,
    )


@contextmanager
def _in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode, then every part of it back into the mode it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _draw_batches(workload: Workload, task: SoakTask) -> Iterator[Any]:
    """Yield the worst batch, then random ones; each is held, as a loop's variable does."""
    generator = torch.Generator("cpu").manual_seed(task.workload.seed)
    batch = workload.take_worst(task.micro_batch_size, task.largest_samples)
    while True:
        yield batch
        batch = workload.draw(task.micro_batch_size, generator)
