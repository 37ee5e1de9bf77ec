"""The difference of two sides' sessions on the log scale, with its standard error."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Difference(NamedTuple):
    """New less old."""

    log: float
    #: Standard error; None where there are too few sessions.
    error: float | None
    #: Of freedom of the error.
    degrees: int
    #: Standard deviation of sessions of one kind.
    spread: float


def compare_means(old: Sequence[float], new: Sequence[float]) -> Difference:
    """Return the difference of sides that were measured one after the other, one value at least.

    Sessions are taken for independent and of one variance on both sides.

    Source: Student 1908.
    """
    log = statistics.fmean(new) - statistics.fmean(old)
    degrees = len(old) + len(new) - 2
    if min(len(old), len(new)) < 2:
        return Difference(log, None, degrees, 0.0)
    squares = sum((len(each) - 1) * statistics.variance(each) for each in (old, new))
    error = math.sqrt(squares / degrees * (1.0 / len(old) + 1.0 / len(new)))
    return Difference(log, error, degrees, statistics.stdev(old))


def compare_in_turns(
    old: Sequence[tuple[int, float]], new: Sequence[tuple[int, float]]
) -> Difference:
    """Return the difference of sides whose sessions took turns, a straight drift taken out.

    Least squares of the logs on the side and on when the session came. Each side has, of each
    session, when it came among all, and its log.

    Source: Frisch & Waugh 1933: both are freed of the drift, and then compared.
    """
    unknown = compare_means([log for _, log in old], [log for _, log in new])._replace(error=None)
    numbers = [float(number) for number, _ in (*old, *new)]
    if min(len(old), len(new)) < 2 or len({*numbers}) < 2:
        return unknown
    logs = _remove_drift(numbers, [log for _, log in (*old, *new)])
    sides = _remove_drift(numbers, [0.0] * len(old) + [1.0] * len(new))
    weight = math.fsum(side * side for side in sides)
    degrees = len(logs) - 3
    if degrees < 1 or weight <= 0.0:
        return unknown
    slope = math.fsum(side * log for side, log in zip(sides, logs, strict=True)) / weight
    rest = math.fsum((log - slope * side) ** 2 for side, log in zip(sides, logs, strict=True))
    spread = math.sqrt(rest / degrees)
    return Difference(slope, spread / math.sqrt(weight), degrees, spread)


def _remove_drift(numbers: Sequence[float], values: Sequence[float]) -> list[float]:
    """Return what a straight line through the values leaves of them."""
    line = statistics.linear_regression(numbers, values)
    return [
        value - line.intercept - line.slope * number
        for number, value in zip(numbers, values, strict=True)
    ]
