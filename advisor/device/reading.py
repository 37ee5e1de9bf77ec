"""What reads counters: their names, and a function that returns their values or the reasons."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from advisor.device.data import Counter


class Reader(NamedTuple):
    """Reads some counters at one moment.

    Attributes:
        names: Of the counters that `read` returns, in any order.
        read: Returns each of them, a missing one with its reason.
    """

    names: tuple[str, ...]
    read: Callable[[], tuple[Counter, ...]]


def lack(names: Iterable[str], reason: str) -> tuple[Counter, ...]:
    """Return the counters as missing for the reason."""
    return tuple(Counter(name=name, missing_because=reason) for name in names)


def lacking(names: Iterable[str], reason: str) -> Reader:
    """Return a reader whose counters are all missing for the reason."""
    counters = lack(names, reason)
    return Reader(tuple(counter.name for counter in counters), lambda: counters)
