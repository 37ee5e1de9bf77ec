"""Loss against samples along the branches of a trial, alone and averaged over starts."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from msgspec.structs import replace

from advisor.rate.data import SAME_RATE, Evaluation, PairKey, TrialBranch

B = TypeVar("B", bound=TrialBranch)

#: Rise above the first loss, as a share of it, from which a branch counts as diverged.
DIVERGENCE_FRACTION = 0.1
#: And by so many standard deviations of a step's loss.
_DEVIATIONS = 2.0


def is_same(pair: PairKey, other: PairKey) -> bool:
    """Return whether two pairs of batch and rate are one."""
    return pair[0] == other[0] and math.isclose(pair[1], other[1], rel_tol=SAME_RATE)


def group_pairs(trials: Iterable[B]) -> dict[PairKey, list[B]]:
    """Return the branches of each pair of batch and rate, in the order of their training."""
    groups: dict[PairKey, list[B]] = {}
    for branch in trials:
        near = (key for key in groups if is_same(key, branch.key))
        groups.setdefault(next(near, branch.key), []).append(branch)
    return groups


def has_diverged(branch: TrialBranch) -> bool:
    """Return whether a loss was not finite, or the end lies clearly above the start."""
    if branch.diverged or not branch.evaluations:
        return True
    first = branch.first_loss
    # What training's own batches say of the first loss is one batch's word.
    margin = DIVERGENCE_FRACTION * abs(first) + _DEVIATIONS * branch.deviation
    return branch.end.loss > first + margin


def read_loss(branch: TrialBranch, samples: float) -> float:
    """Return the loss after so many samples, between evaluations on a straight line."""
    places = [each.samples for each in branch.evaluations]
    return float(np.interp(samples, places, [each.loss for each in branch.evaluations]))


def average_curves(branches: Sequence[TrialBranch]) -> tuple[Evaluation, ...]:
    """Return the mean over starts, each point that of an evaluation and both beside it.

    The first two are as they are: there the loss falls fastest. It ends on the last but one.
    """
    losses = [
        statistics.fmean(each.loss for each in at_once)
        for at_once in zip(*(branch.evaluations for branch in branches), strict=False)
    ]
    last = max(len(losses) - 2, min(len(losses) - 1, 1))
    return tuple(
        Evaluation(
            samples=branches[0].evaluations[place].samples,
            loss=losses[place] if place < 2 else statistics.fmean(losses[place - 1 : place + 2]),
        )
        for place in range(last + 1)
    )


def find_samples_to(curve: Sequence[Evaluation], loss: float) -> float | None:
    """Return the samples after which a curve is first at or below a loss; None where never."""
    if curve and curve[0].loss <= loss:
        return float(curve[0].samples)
    for before, after in pairwise(curve):
        if after.loss <= loss:
            share = (before.loss - loss) / (before.loss - after.loss)
            return before.samples + share * (after.samples - before.samples)
    return None


def average_ranks(results: Mapping[int, Sequence[TrialBranch]]) -> list[TrialBranch]:
    """Return the branch of all ranks: each has seen a part of the batches, and the same weights."""
    branches = [each[0] for _, each in sorted(results.items()) if each]
    if not branches:
        return []
    count = min(len(each.evaluations) for each in branches)
    evaluations = tuple(
        Evaluation(samples=points[0].samples, loss=statistics.fmean(p.loss for p in points))
        for points in zip(*(each.evaluations[:count] for each in branches), strict=True)
    )
    deviation = statistics.fmean(each.deviation for each in branches) / len(branches) ** 0.5
    diverged = any(each.diverged for each in branches)
    return [replace(branches[0], evaluations=evaluations, deviation=deviation, diverged=diverged)]
