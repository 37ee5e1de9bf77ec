"""The user's own logger, told each value by its own call."""

import functools
from collections.abc import Callable
from typing import Any

#: Is told names with their values, and the step.
Logger = Callable[[dict[str, float], int], None]


def bind_logger(logger: Any) -> Logger:
    """Return what tells the logger.

    Args:
        logger: mlflow or a logger of Lightning's (`log_metrics`), a TensorBoard SummaryWriter
            (`add_scalar`), a run of Weights & Biases or its module (`log`), or a function.

    Raises:
        TypeError: It is none of these.
    """
    if hasattr(logger, "log_metrics"):
        return lambda values, step: logger.log_metrics(values, step=step)
    if hasattr(logger, "add_scalar"):
        return functools.partial(_add_scalars, logger)
    if hasattr(logger, "log"):
        # With what the loop logs next: a step of our own could be behind its count.
        return lambda values, _step: logger.log(values, commit=False)
    if callable(logger):
        own: Logger = logger
        return own
    raise TypeError(
        f"{type(logger).__name__} is no logger: give a TensorBoard SummaryWriter, a run of "
        "Weights & Biases, mlflow, a logger of Lightning's, or a function of a dictionary and the "
        "step"
    )


def _add_scalars(writer: Any, values: dict[str, float], step: int) -> None:
    for name, value in values.items():
        writer.add_scalar(name, value, step)
