"""Functions of torch's that are replaced while steps are watched, and its own where not."""

from collections.abc import Callable
from typing import Any, NamedTuple

from advisor.training.script.timed import TimedSteps


class _Patch(NamedTuple):
    owner: Any
    name: str
    original: Any
    replacement: Any
    splits: bool

    def switch(self, *, is_on: bool) -> None:
        """Put one in the other's place; what somebody has put there since stays."""
        new, old = self.original, self.replacement
        if is_on:
            new, old = old, new
        if getattr(self.owner, self.name) is old:
            setattr(self.owner, self.name, new)


class Patches:
    """What was replaced."""

    def __init__(self) -> None:
        self._all: list[_Patch] = []

    def put(
        self, owner: Any, name: str, make: Callable[[Any], Any], *, splits: bool = False
    ) -> None:
        """Replace a function by what is made of it, in steps that are split as well or not."""
        original = getattr(owner, name)
        patch = _Patch(owner, name, original, make(original), splits)
        patch.switch(is_on=True)
        self._all.append(patch)

    def switch(self, timed: TimedSteps | None) -> None:
        """Have those in place that the steps that come are to be seen by."""
        for patch in self._all:
            patch.switch(is_on=timed is None or (timed.splits and patch.splits))
