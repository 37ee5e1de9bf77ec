"""One soak: more training steps at one size than a probe runs, under the same enforced limit.

worst batch | step 1 | random batches: step 2 ... | evaluation | steps | copy of the state | ...
                       peak of training             peak of its own      peak of its own
"""

import gc
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import torch
from torch import nn

from advisor.engine.worker.entry import Emit, describe
from advisor.memory.limit import MemoryGauge
from advisor.soak.data import Soak, SoakTask
from advisor.training.compilation import load_compiler
from advisor.training.device_clock import synchronise
from advisor.training.model_file.batches import map_tensors
from advisor.training.model_file.workload import Workload
from advisor.training.model_file.worst_batch import take_worst_batch
from advisor.training.out_of_memory import is_out_of_memory
from advisor.training.training import Training, UserStep

#: Characters of a failure's message that are kept.
_MESSAGE_LENGTH = 1000


class _Seen(msgspec.Struct):
    """What was measured so far; kept apart from the loop, so that a failure leaves it."""

    steps: int = 0
    evaluations: int = 0
    held_bytes: list[int] = []
    step_times_s: list[float] = []
    training_peak_bytes: int | None = None
    evaluation_peak_bytes: int | None = None
    reserve_peak_bytes: int | None = None
    message: str | None = None


def run(task: SoakTask, emit: Emit[Soak]) -> None:
    """Emit one Soak, `fit` or `oom`; any other failure is the model's and is raised."""
    workload = Workload(task.workload)
    if not workload.is_step_only:
        _ = workload.batches.size  # the dataset is the host's, not part of what training takes
    if task.workload.compile and workload.device.type == "cpu":
        load_compiler()  # it is the host's as well
    gauge = MemoryGauge(workload.device, task.capacity_bytes)
    seen = _Seen()
    failure = None
    try:
        _train(workload, task, gauge, seen)
    except Exception as error:  # a library may wrap the failed allocation in an error of its own
        if not is_out_of_memory(error):
            raise
        failure = describe(error)[:_MESSAGE_LENGTH]
    if failure is not None:  # outside the handler, whose frames hold the tensors
        gc.collect()
    elif _is_over(gauge, seen, task.capacity_bytes):
        failure = "the measured peak is above the limit"
    emit(
        Soak(
            micro_batch_size=task.micro_batch_size,
            gradient_accumulation_steps=task.gradient_accumulation_steps,
            outcome="fit" if failure is None else "oom",
            steps=seen.steps,
            evaluations=seen.evaluations,
            held_bytes=tuple(seen.held_bytes),
            step_times_s=tuple(seen.step_times_s),
            training_peak_bytes=seen.training_peak_bytes,
            evaluation_peak_bytes=seen.evaluation_peak_bytes,
            reserve_peak_bytes=seen.reserve_peak_bytes,
            capacity_bytes=task.capacity_bytes,
            message=failure or seen.message,
        )
    )


def _train(workload: Workload, task: SoakTask, gauge: MemoryGauge, seen: _Seen) -> None:
    """Run the steps, with evaluations and the copy of the state between them."""
    deadline = time.perf_counter() + task.budget_s
    stepper = workload.make_stepper(task.micro_batch_size)
    batches = _draw_batches(workload, task)
    kept: list[Any] = [None, None]  # a user's loop holds the last loss and output in variables
    if isinstance(stepper, Training):
        stepper.model.register_forward_hook(partial(_keep_output, kept))
    pause = math.ceil(task.steps / (task.evaluations + 1))
    for step in range(1, task.steps + 1):
        is_last = step == task.steps or time.perf_counter() > deadline
        _step(workload, task, stepper, gauge, seen, batches, kept)
        if isinstance(stepper, Training):
            if task.reserve and step == 2:  # the optimizer's state is there from the first step on
                _copy_state(stepper, gauge, seen)
            if _is_evaluation_due(task, seen, step, pause, is_last=is_last):
                _evaluate(workload, task, stepper, gauge, seen)
        if is_last:
            return


def _draw_batches(workload: Workload, task: SoakTask) -> Iterator[Any]:
    """Yield the worst batch, then random ones; each is held, as a loop's variable does."""
    generator = torch.Generator().manual_seed(task.workload.seed)
    batch = take_worst_batch(workload, task.micro_batch_size, task.largest_samples)
    while True:
        yield batch
        batch = workload.draw(task.micro_batch_size, generator)


def _step(
    workload: Workload,
    task: SoakTask,
    stepper: Training | UserStep,
    gauge: MemoryGauge,
    seen: _Seen,
    batches: Iterator[Any],
    kept: list[Any],
) -> None:
    """Run one optimizer step, out of as many micro-batches as the task asks for."""
    gauge.reset()
    start = time.perf_counter()
    try:
        if isinstance(stepper, UserStep) or stepper.needs_closure:
            kept[0] = stepper.step(next(batches))
        else:
            times = task.gradient_accumulation_steps
            for _ in range(times):
                kept[0] = stepper.backward(next(batches), divisor=float(times))
            stepper.update()
        synchronise(workload.device)
    finally:  # what was reached before a failure counts
        seen.training_peak_bytes = _raise_peak(seen.training_peak_bytes, gauge)
    seen.step_times_s.append(time.perf_counter() - start)
    seen.held_bytes.append(gauge.held_bytes())
    seen.steps += 1


def _raise_peak(earlier_bytes: int | None, gauge: MemoryGauge) -> int | None:
    """Return the larger of the peak so far and the latest; None where the device counts none."""
    latest_bytes = gauge.peak_bytes()
    return latest_bytes if latest_bytes is None else max(earlier_bytes or 0, latest_bytes)


def _is_evaluation_due(
    task: SoakTask, seen: _Seen, step: int, pause: int, *, is_last: bool
) -> bool:
    """Return whether to evaluate after this step: evenly, and at the end where none ran before."""
    if seen.evaluations >= task.evaluations or seen.message is not None:
        return False
    return step % pause == 0 or (is_last and not seen.evaluations)


def _evaluate(
    workload: Workload, task: SoakTask, training: Training, gauge: MemoryGauge, seen: _Seen
) -> None:
    """Run one evaluation pass on the worst batch; a model whose loss needs training mode has none.

    Such a loss fails for another reason than memory; the reason is kept, and training goes on.
    """
    gauge.reset()
    try:
        with _in_evaluation_mode(training.model):
            training.evaluate(
                take_worst_batch(workload, task.micro_batch_size, task.largest_samples)
            )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        seen.message = f"no evaluation: {describe(error)}"[:_MESSAGE_LENGTH]
        return
    synchronise(training.device)
    seen.evaluation_peak_bytes = _raise_peak(seen.evaluation_peak_bytes, gauge)
    seen.evaluations += 1


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


def _copy_state(training: Training, gauge: MemoryGauge, seen: _Seen) -> None:
    """Copy the state of model and optimizer to the host and drop it, as writing a checkpoint does.

    The gradients and the last output are still held, as they are where a checkpoint is written.
    """
    gauge.reset()
    state = {"model": training.model.state_dict(), "optimizer": training.optimizer.state_dict()}
    copied = map_tensors(state, lambda tensor: tensor.detach().to("cpu", copy=True))
    seen.reserve_peak_bytes = gauge.peak_bytes()
    del state, copied


def _is_over(gauge: MemoryGauge, seen: _Seen, capacity_bytes: int | None) -> bool:
    if capacity_bytes is None:
        return False
    counted = gauge.limit_peak_bytes()
    peaks = (seen.training_peak_bytes, seen.evaluation_peak_bytes, seen.reserve_peak_bytes)
    return (max(peak or 0 for peak in peaks) if counted is None else counted) > capacity_bytes


def _keep_output(kept: list[Any], _model: object, _inputs: object, output: object) -> None:
    kept[1] = output
