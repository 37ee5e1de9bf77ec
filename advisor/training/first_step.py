"""The first step of a training: its loss, whether there is a gradient, and how it is stepped."""

import math
from typing import Any

from torch import Tensor
from torch.optim import LBFGS

from advisor.errors import AdvisorError, WorkloadError
from advisor.training.device_failure import is_out_of_memory
from advisor.training.model_file.foreign import parameters_in
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training

#: Samples in which a gradient other than 0 is looked for: a hinge loss may have none in two.
_WITH_GRADIENT = 32


def take_first_step(
    workload: Workload, training: Training, size: int
) -> tuple[Training, float, bool]:
    """Return the training stepped at `size`, the loss before, and whether every gradient is 0.

    By a closure where one is needed; WorkloadError where neither goes.
    """
    batch, is_zero = workload.take(range(size)), False
    loss: Tensor | None = None
    if not training.needs_closure:
        loss = training.backward(batch)
        is_zero = _has_zero_gradient(workload, training, size)
        try:
            training.update()
        except Exception as error:
            if is_out_of_memory(error) or not training.takes_closure:
                raise
            training = _remake_with_closure(workload, batch, error)
    elif not isinstance(training.optimizer, LBFGS):
        training = _remake_with_closure(workload, batch, None)
    if training.needs_closure:
        loss = training.step(batch)
    first = math.nan if loss is None else float(loss.detach())
    if not math.isfinite(first):
        raise WorkloadError(
            f"{workload.target.text}: the loss is {first} at the first step (batch of {size})",
            next_step="Look for a division by zero, log(0) or unscaled inputs before the loss.",
        )
    return training, first, is_zero


def _remake_with_closure(workload: Workload, batch: Any, failed: Exception | None) -> Training:
    """Return a fresh training that is stepped by a closure, after a backward pass if that counts.

    Where a closure does not help either, what failed without one is raised.
    """
    workload.closure, is_after = "after_backward", False
    try:
        is_after = workload.make_training().moves_before_closure(batch)
    except AdvisorError:
        raise
    except Exception:  # noqa: BLE001 - the step proper says what is wrong
        if failed is not None:
            raise failed from None
    workload.closure = "after_backward" if is_after else "alone"
    return workload.make_training()


def _has_zero_gradient(workload: Workload, training: Training, size: int) -> bool:
    """Return whether every gradient is 0, in more samples too; WorkloadError without any."""

    def list_gradients() -> list[Tensor]:
        return [each.grad for each in parameters_in(training.model) if each.grad is not None]

    if any(float(gradient.norm()) != 0.0 for gradient in list_gradients()):
        return False
    try:
        training.backward(workload.take(range(_WITH_GRADIENT // size * size)))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return True  # so many do not fit, and those that do have none
    if not list_gradients():
        raise WorkloadError(
            "no parameter of the model has a gradient after the backward pass",
            next_step="The loss must depend on the model's parameters; where hooks step the "
            "optimizer within the backward pass, write make_step(batch_size, device).",
        )
    return all(float(gradient.norm()) == 0.0 for gradient in list_gradients())
