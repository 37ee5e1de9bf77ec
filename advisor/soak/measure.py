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

from advisor.engine.worker.emitter import Emit
from advisor.engine.worker.failure import describe
from advisor.memory.measure import (
    MESSAGE_LENGTH,
    OVER_LIMIT,
    PeakObserver,
    catch_out_of_memory,
    find_largest,
    hold_output,
    prepare,
)
from advisor.memory.measure_limit import MemoryGauge
from advisor.soak.data import Soak, SoakTask
from advisor.training.device_failure import is_out_of_memory
from advisor.training.devices import synchronise
from advisor.training.loop import train
from advisor.training.model_file.batches import map_tensors
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Step
from advisor.training.training import Training


class _SoakObserver(PeakObserver):
    """Sees the steps, and between them evaluates the model and copies its state."""

    def __init__(self, gauge: MemoryGauge, workload: Workload, task: SoakTask) -> None:
        super().__init__(gauge)
        self.training: Training | None = None  # a step of the user's own has no pauses
        self.evaluations = 0
        self.evaluation_peak_bytes: int | None = None
        self.reserve_peak_bytes: int | None = None
        self.failure: str | None = None
        self.why_not_evaluated: str | None = None
        self._workload, self._task = workload, task
        self._deadline_s = time.perf_counter() + task.budget_s

    def after_step(self, step: Step) -> bool:
        """Do what is due after the step."""
        super().after_step(step)
        is_last = step.number == self._task.steps or time.perf_counter() > self._deadline_s
        if self.training is not None:
            with catch_out_of_memory() as failure:
                if self._task.reserve and step.number == 2:  # the optimizer's state is there by now
                    self._copy_state(self.training)
                if self._is_evaluation_due(step.number, is_last=is_last):
                    self._evaluate(self.training)
            self.failure = failure[0] if failure else None
            self.begin()
        return not is_last and self.failure is None

    def _is_evaluation_due(self, step: int, *, is_last: bool) -> bool:
        """Return whether to evaluate now: evenly, and at the end where none ran before."""
        if self.evaluations >= self._task.evaluations or self.why_not_evaluated is not None:
            return False
        pause = math.ceil(self._task.steps / (self._task.evaluations + 1))
        return step % pause == 0 or (is_last and not self.evaluations)

    def _evaluate(self, training: Training) -> None:
        """Evaluate the worst batch once; a model whose loss needs training mode has none.

        Such a loss fails for another reason than memory; the reason is kept, and training goes on.
        """
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


def run(task: SoakTask, emit: Emit[Soak]) -> None:
    """Emit one Soak, `fit` or `oom`."""
    workload, gauge, _ = prepare(task, task.capacity_bytes)
    seen = _SoakObserver(gauge, workload, task)
    with catch_out_of_memory() as caught:
        _train(workload, task, seen)
    if caught:
        seen.see_failure()
    failure = caught[0] if caught else seen.failure
    peaks = (seen.peak_bytes, seen.evaluation_peak_bytes, seen.reserve_peak_bytes)
    if failure is not None:
        gc.collect()
    elif gauge.is_over(*peaks):
        failure = OVER_LIMIT
    found = make_soak(task, seen, failure)
    emit(
        replace(
            found,
            evaluations=seen.evaluations,
            evaluation_peak_bytes=seen.evaluation_peak_bytes,
            reserve_peak_bytes=seen.reserve_peak_bytes,
            message=failure or seen.why_not_evaluated,
        )
    )


def make_soak(task: SoakTask, seen: PeakObserver, failure: str | None) -> Soak:
    """Return what the steps showed, and what ended them."""
    return Soak(
        micro_batch_size=task.micro_batch_size,
        gradient_accumulation_steps=task.gradient_accumulation_steps,
        outcome="fit" if failure is None else "oom",
        steps=len(seen.times_s),
        held_bytes=tuple(seen.held_bytes),
        step_times_s=tuple(seen.times_s),
        training_peak_bytes=seen.peak_bytes,
        capacity_bytes=task.capacity_bytes,
        message=failure,
    )


def _train(workload: Workload, task: SoakTask, seen: _SoakObserver) -> None:
    stepper = workload.make_stepper(task.micro_batch_size)
    hold_output(stepper)
    seen.training = stepper if isinstance(stepper, Training) else None
    seen.begin()
    train(
        stepper,
        _draw_batches(workload, task),
        (seen,),
        micro_batch_size=task.micro_batch_size,
        accumulation=task.gradient_accumulation_steps,
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
