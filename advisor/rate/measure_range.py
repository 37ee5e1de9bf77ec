"""A learning-rate range test: the rate rises with every step, the loss of every step is kept.

Each seed starts as a trial's branch does, from fresh weights with the user's optimizer, and sees
the data in an order of its own. The loss of a step is that of its own batch before the update, so
it answers to the rates of the steps before it.
"""

import math
import time

import torch

from advisor.engine.worker.entry import Emit, seed_everything
from advisor.errors import DeviceError
from advisor.rate.data import LrRangeCurve, LrRangeTask
from advisor.rate.measure import make_rate_setter
from advisor.rate.range_test import LossGuard
from advisor.training.heap import keep_freed_memory
from advisor.training.model_file.data import IndexStream
from advisor.training.model_file.workload import Workload
from advisor.training.out_of_memory import is_out_of_memory
from advisor.training.training import Training

#: Steps that are timed and thrown away to tell how many the time allows; the first does not count.
_PILOT_STEPS = 4


def run(task: LrRangeTask, emit: Emit[LrRangeCurve]) -> None:
    """Emit one LrRangeCurve for each seed, all of as many steps as the time allows.

    Nothing is emitted where it does not allow the least number of steps.

    Raises:
        DeviceError: The batch does not fit in memory.
    """
    keep_freed_memory()
    workload = Workload(task.workload)
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
        raise _explain_memory(task) from error


def _choose_steps(workload: Workload, task: LrRangeTask) -> int:
    """Return the steps of each curve: those asked for, or fewer where the time does not suffice."""
    started = time.perf_counter()
    seed_everything(task.seeds[0])
    training = workload.make_training()
    make_rate_setter(training)(task.low_rate)
    stream = IndexStream(workload.batches.sampling_size, seed=task.seeds[0])
    _step(workload, training, task, stream)
    warm = time.perf_counter()
    for _ in range(_PILOT_STEPS - 1):
        _step(workload, training, task, stream)
    now = time.perf_counter()
    step_s = (now - warm) / (_PILOT_STEPS - 1)
    return min(task.steps, int((task.budget_s - (now - started)) / len(task.seeds) / step_s))


def _follow_curve(
    workload: Workload, task: LrRangeTask, seed: int, steps: int, deadline: float
) -> LrRangeCurve:
    seed_everything(seed)
    training = workload.make_training()
    set_rate = make_rate_setter(training)
    stream = IndexStream(workload.batches.sampling_size, seed=seed)
    factor = (task.high_rate / task.low_rate) ** (1.0 / (steps - 1))
    rates: list[float] = []
    losses: list[float | None] = []
    guard = LossGuard()
    has_diverged = is_late = False
    while len(rates) < steps and not (has_diverged or is_late):
        rates.append(task.low_rate * factor ** len(rates))
        set_rate(rates[-1])
        loss = _try_step(workload, training, task, stream)
        losses.append(loss if math.isfinite(loss) else None)
        has_diverged = guard.is_beyond(loss)
        is_late = time.perf_counter() > deadline
    ended = len(rates) == steps
    return LrRangeCurve(
        micro_batch_size=task.micro_batch_size,
        gradient_accumulation_steps=task.gradient_accumulation_steps,
        global_batch_size=task.micro_batch_size * task.gradient_accumulation_steps,
        steps=steps,
        seed=seed,
        rates=tuple(rates),
        losses=tuple(losses),
        stopped_by="divergence" if has_diverged else "range" if ended else "budget",
    )


def _try_step(
    workload: Workload, training: Training, task: LrRangeTask, stream: IndexStream
) -> float:
    """Return the step's loss; NaN where the user's code refuses what has diverged already."""
    try:
        return _step(workload, training, task, stream)
    except Exception as error:
        if is_out_of_memory(error) or _is_finite(training):
            raise
        return math.nan


def _is_finite(training: Training) -> bool:
    return all(bool(torch.isfinite(p).all()) for p in training.model.parameters())


def _step(workload: Workload, training: Training, task: LrRangeTask, stream: IndexStream) -> float:
    """Train one step and return the loss of its whole batch before it."""
    if training.needs_closure:
        loss = training.step(workload.take(stream.next(task.micro_batch_size)))
        return math.nan if loss is None else float(loss.detach())
    divisor = 1.0 if task.loss_is_sum else float(task.gradient_accumulation_steps)
    losses = []
    for _ in range(task.gradient_accumulation_steps):
        batch = workload.take(stream.next(task.micro_batch_size))
        losses.append(float(training.backward(batch, divisor=divisor).detach()))
    training.update()
    return math.fsum(losses) / divisor


def _explain_memory(task: LrRangeTask) -> DeviceError:
    size = task.micro_batch_size
    return DeviceError(
        f"a training step at micro-batch {size} does not fit in memory",
        next_step="Give a smaller --global-batch-size, or split it with a smaller "
        "--micro-batch-size; `bsadvisor probe` finds the largest that fits.",
    )
