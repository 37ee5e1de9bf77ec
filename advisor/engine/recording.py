"""A command's record in progress: what it holds so far, the clock, and where it is saved."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import msgspec

from advisor.errors import AdvisorError
from advisor.rate.range_record import LrRangeRecord

#: No part gets less: a budget that is spent still lets what runs end in order.
_LEAST_S = 5.0

R = TypeVar("R", bound=LrRangeRecord)


class Recording(Generic[R]):
    """The record so far, the clock, and where the record goes.

    Args:
        record: What is known at the start.
        budget_s: Wall clock for the command.
        save: Called with the record after each change.

    Attributes:
        record: Everything seen so far.
    """

    def __init__(self, record: R, budget_s: float, save: Callable[[R], None]) -> None:
        self.record: R = record
        self._budget_s = budget_s
        self._save: Callable[[R], None] = save
        self._started = time.monotonic()

    @property
    def is_spent(self) -> bool:
        """Whether the budget is over."""
        return self._elapsed_s >= self._budget_s

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left, or a few to end in order."""
        return max(_LEAST_S, self._budget_s - self._elapsed_s)

    def keep(self, **changes: object) -> None:
        """Change the record and save it."""
        changes = {"elapsed_s": self._elapsed_s, **changes}
        self.record = msgspec.structs.replace(self.record, **changes)
        self._save(self.record)

    @contextmanager
    def completing(self) -> Iterator[None]:
        """Mark the record complete at the end, or say what ended it before."""
        try:
            yield
        except AdvisorError as error:
            self.keep(stopped_because=error.message)
            raise
        except KeyboardInterrupt:
            self.keep(stopped_because="interrupted")
            raise
        self.keep(complete=True)

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started
