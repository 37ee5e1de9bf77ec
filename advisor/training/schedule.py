"""The user's learning-rate schedule: checked at once, and stepped with each optimizer step."""

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from advisor.errors import WorkloadError
from advisor.training.observer import Observer, Step
from advisor.training.optimizer_facts import find_leading

#: Optimizer steps of the schedule that a model file is tried with: any number has to do.
_TRIED_STEPS = 100
#: Relative difference of rates that rounding may leave.
_ROUNDING_FRACTION = 0.01


class ScheduleObserver(Observer):
    """Steps a scheduler after each optimizer step."""

    def __init__(self, scheduler: LRScheduler) -> None:
        self._scheduler = scheduler

    def after_step(self, step: Step) -> bool:  # noqa: ARG002
        """Go on to the next step's rate."""
        self._scheduler.step()
        return True


def check_scheduler(made: Any, optimizer: Optimizer) -> LRScheduler:
    """Return a scheduler that follows this optimizer's steps; WorkloadError for anything else."""
    if not isinstance(made, LRScheduler):
        problem = f"returned a {type(made).__name__}, not a torch LRScheduler"
    elif isinstance(made, ReduceLROnPlateau):
        problem = "returned a ReduceLROnPlateau, which follows a loss and not the steps"
    elif made.optimizer is not optimizer:
        problem = "returned a scheduler of another optimizer than the one it was given"
    else:
        return made
    raise WorkloadError(
        f"make_scheduler {problem}",
        next_step="Return a scheduler of torch.optim.lr_scheduler over the optimizer given, "
        "stretched over total_steps, or leave make_scheduler out.",
    )


def try_schedule(make: Callable[[int], LRScheduler | None], optimizer: Optimizer) -> bool:
    """Return whether there is a schedule; it was followed to its end at two rates.

    `make` makes the scheduler for so many steps, from the optimizer's rates on. WorkloadError where
    a rate is no finite positive number, or none follows the optimizer's.
    """
    if not any(group.get("lr") for group in optimizer.param_groups):
        return False  # nothing that could follow one
    peaks: list[float] = []
    for factor in (1.0, 2.0):
        followed = _follow(make, optimizer, _TRIED_STEPS, factor)
        if followed is None:
            return False
        rates = [max(each) for each in followed]
        bad = next((n for n, rate in enumerate(rates) if not 0.0 <= rate < math.inf), None)
        if bad is not None or not max(rates) > 0.0:
            seen = f"{rates[bad]:.3g} at step {bad}" if bad is not None else "0 all along"
            raise WorkloadError(
                f"make_scheduler, asked for {_TRIED_STEPS} steps, gives a rate of {seen}",
                next_step="Make warm-up and decay shares of total_steps: it may be any number.",
            )
        peaks.append(max(rates))
    if not math.isclose(peaks[1], 2.0 * peaks[0], rel_tol=_ROUNDING_FRACTION):
        raise WorkloadError(
            "make_scheduler sets rates of its own: from twice the optimizer's rate on, its highest "
            f"rate is {peaks[1]:.3g} in place of {2.0 * peaks[0]:.3g}",
            next_step='Take the rate from optimizer.param_groups[0]["lr"], as in '
            'OneCycleLR(optimizer, max_lr=optimizer.param_groups[0]["lr"], ...).',
        )
    return True


def list_rates(
    make: Callable[[int], LRScheduler | None], optimizer: Optimizer, steps: int
) -> list[float] | None:
    """Return the leading group's rate before each step of a schedule of so many, and at its end."""
    first = find_leading([group["lr"] for group in optimizer.param_groups])
    followed = _follow(make, optimizer, steps)
    return None if followed is None else [rates[first] for rates in followed]


def _follow(
    make: Callable[[int], LRScheduler | None], optimizer: Optimizer, steps: int, factor: float = 1.0
) -> list[list[float]] | None:
    """Return the rates of all groups before each step and after the last, from `factor` of theirs.

    None without a schedule; the optimizer's settings are left as they were.
    """
    groups = optimizer.param_groups
    kept = [copy.deepcopy({k: v for k, v in g.items() if k != "params"}) for g in groups]
    try:
        for group in groups:
            group["lr"] = factor * (group["lr"] or 0.0)
        scheduler = make(steps)
        if scheduler is None:
            return None
        rates = [[float(group["lr"]) for group in groups]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no optimizer steps in between, as torch expects
            for _ in range(steps):
                scheduler.step()
                rates.append([float(group["lr"]) for group in groups])
        return rates
    finally:
        for group, settings in zip(groups, kept, strict=True):
            for name in group.keys() - settings.keys() - {"params"}:
                del group[name]
            group.update(settings)
