"""Steps that are timed: nothing else is watched in them, since that would be timed as well."""

import time
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

#: After an optimizer's step; gets the optimizer and the arguments of its step.
PostHook = Callable[[Any, Any, Any], None]


class TimedSteps:
    """The steps of an optimizer that come next; observers hear of the last one alone.

    Attributes:
        count: How many they are.
        every: After how many the clock is read.
        splits: Whether the optimizer's own part is timed, and waits for data.
        count_left: Returns how many are to come.
        ends_s: When each of these groups of steps ended.
        optimizer_s: What the optimizer took of all steps, without its closure.
    """

    def __init__(self, optimizer: Optimizer, count: int, *, every: int, splits: bool) -> None:
        self._optimizer, self.count, self.splits = optimizer, count, splits
        self.every = every
        self.count_left: Callable[[], int] = lambda: count
        self.ends_s: list[float] = []
        self.optimizer_s = self._began_s = 0.0

    def begin(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        """See an optimizer about to step; return its arguments where it has a closure."""
        if optimizer is not self._optimizer:
            return None
        self._start_clock()
        return watch_closure(args, kwargs, self._start_clock)

    def _start_clock(self) -> None:
        self._began_s = time.perf_counter()

    def make_hook(self, on_last: PostHook) -> PostHook:
        """Return what sees their ends, and the last by `on_last`; all it needs is closed over."""
        own, ends_s, now = self._optimizer, self.ends_s, time.perf_counter
        every, left = self.every, self.count
        due = left - every
        self.count_left = lambda: left

        def see(optimizer: Any, args: Any, kwargs: Any) -> None:
            nonlocal left, due
            if optimizer is own:
                left -= 1
                if left == due:
                    ends_s.append(now())
                    due -= every
                if left == 0:
                    on_last(optimizer, args, kwargs)

        def split(optimizer: Any, args: Any, kwargs: Any) -> None:
            if optimizer is own:
                self.optimizer_s += now() - self._began_s
            see(optimizer, args, kwargs)

        return split if self.splits else see


def watch_closure(args: Any, kwargs: Any, act: Callable[[], None]) -> tuple[Any, Any] | None:
    """Return the arguments of a step whose closure ends in this act; None where it has none."""
    closure = args[1] if len(args) > 1 else kwargs.get("closure")
    if not callable(closure):
        return None

    def watched() -> Any:
        loss = closure()
        act()
        return loss

    if len(args) > 1:
        return (args[0], watched, *args[2:]), kwargs
    return args, {**kwargs, "closure": watched}
