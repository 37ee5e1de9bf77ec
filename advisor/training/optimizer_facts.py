"""What an optimizer says of itself: settings of any type, in any number of parameter groups."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from advisor.errors import WorkloadError
from advisor.training.data import OptimizerFacts, ParameterGroup


def describe_optimizer(optimizer: Optimizer) -> OptimizerFacts:
    """Return the settings that are numbers; one of another type counts as none."""
    groups = optimizer.param_groups
    group = groups[find_leading([each.get("lr") for each in groups])]
    found = group.get("betas")
    beta1, beta2, *_ = (*(tuple(found) if isinstance(found, list | tuple) else ()), None, None)
    classes = type(optimizer).__mro__
    return OptimizerFacts(
        name=type(optimizer).__name__,
        learning_rate=to_number(group.get("lr")),
        momentum=to_number(group.get("momentum")),
        beta1=to_number(beta1),
        beta2=to_number(beta2),
        epsilon=to_number(group.get("eps")),
        weight_decay=to_number(group.get("weight_decay")),
        dampening=to_number(group.get("dampening")),
        is_nesterov=group.get("nesterov") is True,
        groups=tuple(
            ParameterGroup(
                parameter_count=sum(p.numel() for p in each["params"]),
                learning_rate=to_number(each.get("lr")),
                weight_decay=to_number(each.get("weight_decay")),
            )
            for each in groups
        ),
        class_names=tuple(each.__name__ for each in classes[: classes.index(Optimizer)]),
    )


def find_leading(rates: Sequence[object]) -> int:
    """Return the place of the group that a rate is told and set of: the first that trains.

    That is the first one above 0, as one below climbs beside others; else the first of all.
    """
    numbers = [to_number(rate) or 0.0 for rate in rates]
    return next((place for place, number in enumerate(numbers) if number > 0.0), 0)


def restart_rates(optimizer: Optimizer) -> None:
    """Give each group the rate that the user gave it, before a scheduler's warm-up changed it."""
    for group in optimizer.param_groups:
        if "initial_lr" in group or "max_lr" in group:
            group["lr"] = find_given_rate(group)


def check_rates(optimizer: Optimizer) -> None:
    """Raise WorkloadError where a group's rate is no number to train at, as written after the init.

    One below 0 climbs; beside others that train it may be meant, as for a penalty's weight.
    """
    rates = [group.get("lr") for group in optimizer.param_groups]
    numbers = [to_number(rate) for rate in rates]
    for index, (rate, number) in enumerate(zip(rates, numbers, strict=True)):
        is_broken = isinstance(rate, str) or (number is not None and not math.isfinite(number))
        climbs = number is not None and number < 0.0 and not any((n or 0.0) > 0.0 for n in numbers)
        if is_broken or climbs:
            raise WorkloadError(
                f"the learning rate of parameter group {index} of {type(optimizer).__name__} is "
                f"{rate!r}",
                next_step="Give every group a finite rate above 0: what is written into "
                "param_groups is not checked by torch.",
            )


def find_given_rate(group: dict[str, Any]) -> Any:
    """Return the rate that the user gave, before a scheduler changed it."""
    return group.get("max_lr", group.get("initial_lr", group.get("lr")))


def to_number(value: object) -> float | None:
    """Return the value where it is one real number, in a tensor or not; None otherwise."""
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 and not value.is_complex() else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None  # type: ignore[arg-type]
