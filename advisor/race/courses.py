"""Losses along the longest branches of pairs, over the starts that all were trained from."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from advisor.race.plan import FRESH, LEAST_FRESH
from advisor.rate.data import TrialBranch


class CoursePoint(NamedTuple):
    """The mean loss over starts after so many samples, and the lowest and highest of them."""

    samples: int
    loss: float
    low: float
    high: float


def read_courses(
    sides: Sequence[Sequence[TrialBranch]],
) -> tuple[list[tuple[CoursePoint, ...]], int]:
    """Return the course of each side, and the number of starts: those that judge, if there are."""
    seeds = set.intersection(*({each.seed for each in side} for side in sides))
    fresh = {seed for seed in seeds if seed in FRESH}
    # Branches of other starts have other lengths, so that their means would be of no training.
    seeds = fresh if len(fresh) >= LEAST_FRESH else seeds - fresh
    return [_average([each for each in side if each.seed in seeds]) for side in sides], len(seeds)


def _average(branches: Sequence[TrialBranch]) -> tuple[CoursePoint, ...]:
    """Return the mean of each start's longest branch, where all starts were evaluated."""
    longest = {each.seed: each for each in sorted(branches, key=lambda each: each.samples)}
    found: dict[int, list[float]] = {}
    for branch in longest.values():
        for each in branch.evaluations:
            if math.isfinite(each.loss):
                found.setdefault(each.samples, []).append(each.loss)
    return tuple(
        CoursePoint(samples, statistics.fmean(losses), min(losses), max(losses))
        for samples, losses in sorted(found.items())
        if len(losses) == len(longest)
    )
