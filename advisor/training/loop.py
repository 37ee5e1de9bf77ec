"""Our own loop over a model file: the source of steps where the user's script is not run."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from advisor.training.observer import Observer, Step
from advisor.training.training import Training, UserStep


def train(
    stepper: Training | UserStep,
    batches: Iterator[Any],
    observers: Sequence[Observer],
    *,
    micro_batch_size: int,
    accumulation: int = 1,
    loss_is_sum: bool = False,
    is_frozen: bool = False,
    most_steps: int | None = None,
    prepare: Callable[[Any], Any] | None = None,
) -> None:
    """Run optimizer steps until an observer has seen enough, or there are no more batches.

    Args:
        stepper: Left in its last state.
        batches: One for each micro-batch.
        observers: In the order in which they watch.
        micro_batch_size: Samples of each batch.
        accumulation: Micro-batches of a step; an optimizer that needs a closure has one.
        loss_is_sum: Accumulated losses are not averaged then.
        is_frozen: Leave the parameters as they are: the gradients alone are wanted.
        most_steps: Steps after which to end.
        prepare: Puts a batch on the device; that is not waiting for data.
    """
    is_whole = isinstance(stepper, UserStep) or (stepper.needs_closure and not is_frozen)
    count = 1 if is_whole else accumulation
    divisor = 1.0 if loss_is_sum else float(count)
    for number in itertools.count(1) if most_steps is None else range(1, most_steps + 1):
        step = Step(number=number, samples=count * micro_batch_size, micro_batches=count)
        step.has_gradients = not is_whole
        if isinstance(stepper, Training):
            step.optimizer = stepper.optimizer
        for _ in range(count):
            if not _take(batches, step, prepare):
                return
            if isinstance(stepper, Training) and not is_whole:
                step.losses.append(stepper.backward(step.batch, divisor=divisor).detach())
        if isinstance(stepper, UserStep) or is_whole:
            _tell_before(observers, step)
            loss = stepper.step(step.batch)
            step.losses += [] if loss is None else [loss.detach()]
        else:
            step.gradient_scale = stepper.gradient_scale()
            _tell_before(observers, step)
            stepper.optimizer.zero_grad() if is_frozen else stepper.update()
        if not all([observer.after_step(step) for observer in observers]):  # noqa: C419 - all see it
            return


_END = object()


def _take(batches: Iterator[Any], step: Step, prepare: Callable[[Any], Any] | None) -> bool:
    """Give the step its next batch and the wait for it; return False where there is none."""
    asked_s = time.perf_counter()
    step.batch = next(batches, _END)
    step.waited_s += time.perf_counter() - asked_s
    if step.batch is _END:
        return False
    if prepare is not None:
        step.batch = prepare(step.batch)
    return True


def _tell_before(observers: Sequence[Observer], step: Step) -> None:
    for observer in observers:
        observer.before_step(step)
