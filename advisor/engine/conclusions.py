"""What follows from a record: each conclusion once, when it is first asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from advisor.engine.record import Record

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Topic(Generic[T]):
    """The key of one conclusion; the name is its key under `derived` in the JSON document.

    `conclude` is pure, and returns None where the record does not hold enough.
    """

    name: str
    kind: type[T]
    conclude: "Callable[[Conclusions], T | None]"


class Conclusions:
    """What follows from one record; a record that grows has new ones."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._known: dict[Topic[Any], Any] = {}

    def of(self, topic: Topic[T]) -> T | None:
        """Return the conclusion, None where the record does not hold enough for it."""
        if topic not in self._known:
            self._known[topic] = topic.conclude(self)
        found: T | None = self._known[topic]
        return found
