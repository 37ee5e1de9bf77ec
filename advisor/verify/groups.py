"""The branches of each batch, their losses after some samples, and where each batch stands."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from advisor.rate.curves import group_pairs, has_diverged, read_loss
from advisor.statistics import Estimate, estimate_mean
from advisor.verify.data import BatchStanding, VerificationBranch

#: Parts of a branch at whose ends its loss is read, as often as it was evaluated.
CURVE_POINTS = 20
#: Readings at the end whose mean is a branch's result: one alone may be a lucky dip.
END_READINGS = 3
#: Share of the loss that counts as equal, and of its fall.
LOSS_FRACTION, TOLERANCE_FRACTION = 0.01, 0.05


class BatchBranches(msgspec.Struct, frozen=True):
    """The branches of one batch and rate, by seed."""

    branches: tuple[VerificationBranch, ...]

    @property
    def global_batch_size(self) -> int:
        """Samples of one optimizer step."""
        return self.branches[0].global_batch_size

    @property
    def diverged(self) -> int:
        """How many of them diverged."""
        return sum(has_diverged(branch) for branch in self.branches)


class Standing(NamedTuple):
    """One batch beside the best; a batch that diverged has no loss."""

    standing: BatchStanding = "diverged"
    loss: Estimate | None = None
    #: Loss over the best batch's, paired by seed; None where no seed is shared.
    excess: Estimate | None = None


class Comparison(NamedTuple):
    """The batches that did not diverge, beside the one of the lowest mean loss."""

    best: BatchBranches
    start: float
    lowest: float
    margin: float
    standings: dict[int, Standing]

    @property
    def has_learnt(self) -> bool:
        """Whether any batch lowered the loss by more than counts as equal."""
        return self.start - self.lowest > self.margin

    @property
    def is_told(self) -> bool:
        """Whether two batches share seeds enough to tell a difference from chance."""
        excesses = (
            each.excess
            for size, each in self.standings.items()
            if size != self.best.global_batch_size
        )
        return any(excess is not None and excess.high is not None for excess in excesses)


def group_branches(branches: Sequence[VerificationBranch]) -> tuple[BatchBranches, ...]:
    """Return the branches by batch, smallest first; of several rates the best one's."""
    trained = (branch for branch in branches if branch.evaluations or branch.diverged)
    best: dict[int, BatchBranches] = {}
    for (size, _), of_pair in group_pairs(trained).items():
        by_seed = {branch.seed: branch for branch in of_pair}
        group = BatchBranches(tuple(by_seed[seed] for seed in sorted(by_seed)))
        if size not in best or _rank(group) < _rank(best[size]):
            best[size] = group
    return tuple(best[size] for size in sorted(best))


def _rank(group: BatchBranches) -> tuple[int, float]:
    if group.diverged:
        return group.diverged, math.inf
    return 0, statistics.fmean(_read_ends(group, find_common_samples([group])))


def find_common_samples(groups: Sequence[BatchBranches]) -> int:
    """Return the samples that every branch consumed which did not diverge; 0 without any."""
    branches = (branch for group in groups for branch in group.branches)
    ends = [branch.evaluations[-1].samples for branch in branches if not has_diverged(branch)]
    return min(ends, default=0)


def measure_margin(start: float, lowest: float) -> float:
    """Return the difference in loss that counts as equal: 1 % of it, or 5 % of its fall.

    Source: Merrill et al. 2025, arXiv:2505.23971, for the share of the loss.
    """
    return max(LOSS_FRACTION * abs(lowest), TOLERANCE_FRACTION * (start - lowest))


def compare_batches(
    groups: Sequence[BatchBranches], samples: Mapping[int, float]
) -> Comparison | None:
    """Return where each batch stands that has `samples` and did not diverge; None without any.

    A batch holds if the 95 % interval of its excess, paired by seed, lies below the margin, and
    fails if it lies above.
    """
    usable = {
        group.global_batch_size: group
        for group in groups
        if not group.diverged and group.global_batch_size in samples
    }
    if not usable:
        return None
    ends = {size: _read_ends(group, samples[size]) for size, group in usable.items()}
    best = min(ends, key=lambda size: statistics.fmean(ends[size]))
    seeds = [branch.seed for branch in usable[best].branches]
    of_best = dict(zip(seeds, ends[best], strict=True))
    lowest = statistics.fmean(ends[best])
    start = statistics.fmean(each.evaluations[0].loss for each in usable[best].branches)
    margin = measure_margin(start, lowest)
    standings = {}
    for size, group in usable.items():
        own = zip(group.branches, ends[size], strict=True)
        behind = [end - of_best[one.seed] for one, end in own if one.seed in of_best]
        excess: Estimate | None = Estimate(0.0, 0.0, 0.0)
        if size != best:
            excess = estimate_mean(behind) if behind else None
        standings[size] = Standing(_judge(excess, margin), estimate_mean(ends[size]), excess)
    return Comparison(usable[best], start, lowest, margin, standings)


def _judge(excess: Estimate | None, margin: float) -> BatchStanding:
    if excess is None or excess.low is None or excess.high is None:
        return "undecided"
    if excess.high <= margin:
        return "holds"
    return "fails" if excess.low > margin else "undecided"


def _read_ends(group: BatchBranches, samples: float) -> list[float]:
    """Return for each branch the mean of its last readings up to so many samples."""
    part = samples / CURVE_POINTS
    return [
        statistics.fmean(read_loss(branch, samples - k * part) for k in range(END_READINGS))
        for branch in group.branches
    ]
