"""The branches of each batch, their losses after some samples, and where each batch stands."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
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
#: Fewest batches on which a slope rests.
_LEAST_BATCHES = 3
_UNLEARNT = "no batch lowered the loss: the branches are too short, or the state is trained"
_UNTOLD = "no two batches were trained from two seeds or more, so nothing tells chance apart"

Read = Callable[[VerificationBranch], float | None]


class BatchBranches(msgspec.Struct, frozen=True):
    """The branches of one batch and rate, by seed."""

    branches: tuple[VerificationBranch, ...]
    #: Of an optimizer step; None where the run has not timed it.
    step_s: float | None = None

    @property
    def global_batch_size(self) -> int:
        """Samples of one optimizer step."""
        return self.branches[0].global_batch_size

    @property
    def split(self) -> tuple[int, int]:
        """Of what a step is made."""
        return self.branches[0].split

    @property
    def diverged(self) -> int:
        """How many of them diverged."""
        return sum(has_diverged(branch) for branch in self.branches)

    def read_ends(self, samples: float) -> dict[int, float]:
        """Return by seed the mean of a branch's last readings up to so many samples."""
        part = samples / CURVE_POINTS
        places = [samples - k * part for k in range(END_READINGS)]
        return {
            branch.seed: statistics.fmean(read_loss(branch, place) for place in places)
            for branch in self.branches
        }

    def estimate(self, read: Read) -> Estimate | None:
        """Return the mean over the seeds that have it; None where a branch diverged."""
        values = [value for branch in self.branches if (value := read(branch)) is not None]
        return estimate_mean(values) if values and not self.diverged else None


class Standing(NamedTuple):
    """One batch beside the best; a batch that diverged has no loss."""

    standing: BatchStanding = "diverged"
    loss: Estimate | None = None
    #: Loss over the best batch's, paired by seed; None where no seed is shared.
    excess: Estimate | None = None


class Comparison(NamedTuple):
    """The batches that did not diverge, beside the one of the lowest mean loss."""

    best: BatchBranches
    lowest: float
    #: Loss that counts as equal.
    margin: float
    standings: dict[int, Standing]
    #: Why the branches tell nothing of their batches; None where they do.
    untold: str | None


def group_branches(branches: Sequence[VerificationBranch]) -> tuple[BatchBranches, ...]:
    """Return the branches by batch, smallest first; of several rates the best one's."""
    trained = (branch for branch in branches if branch.evaluations or branch.diverged)
    groups: dict[int, list[BatchBranches]] = {}
    for (size, _), of_pair in group_pairs(trained).items():
        by_seed = {branch.seed: branch for branch in of_pair}
        group = BatchBranches(tuple(by_seed[seed] for seed in sorted(by_seed)))
        groups.setdefault(size, []).append(group)
    return tuple(min(groups[size], key=_rank) for size in sorted(groups))


def _rank(group: BatchBranches) -> tuple[int, float]:
    if group.diverged:
        return group.diverged, math.inf
    return 0, statistics.fmean(group.read_ends(find_common_samples([group])).values())


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
    ends = {size: group.read_ends(samples[size]) for size, group in usable.items()}
    means = {size: statistics.fmean(of_seeds.values()) for size, of_seeds in ends.items()}
    best = min(means, key=means.__getitem__)
    lowest, of_best = means[best], ends[best]
    start = statistics.fmean(each.evaluations[0].loss for each in usable[best].branches)
    margin = measure_margin(start, lowest)
    standings, is_told = {}, any(group.diverged for group in groups)
    for size, of_seeds in ends.items():
        behind = [end - of_best[seed] for seed, end in of_seeds.items() if seed in of_best]
        excess: Estimate | None = Estimate(0.0, 0.0, 0.0)
        if size != best:
            excess = estimate_mean(behind) if behind else None
            is_told |= excess is not None and excess.high is not None
        loss = estimate_mean([*of_seeds.values()])
        standings[size] = Standing(_judge(excess, margin), loss, excess)
    untold = None if is_told else _UNTOLD
    if start - lowest <= margin:
        untold = _UNLEARNT
    return Comparison(usable[best], lowest, margin, standings, untold)


def _judge(excess: Estimate | None, margin: float) -> BatchStanding:
    if excess is None or excess.low is None or excess.high is None:
        return "undecided"
    if excess.high <= margin:
        return "holds"
    return "fails" if excess.low > margin else "undecided"


def estimate_slope(groups: Sequence[BatchBranches], read: Read) -> Estimate | None:
    """Return how much a value grows when the batch doubles, by a line of each seed, where known.

    Source: after Keskar et al. 2016, arXiv:1609.04836: large batches tend to sharp minima that
    generalise worse.
    """
    by_seed: dict[int, list[tuple[float, float]]] = {}
    for branch in (one for group in groups if not group.diverged for one in group.branches):
        if (value := read(branch)) is not None:
            point = (math.log2(branch.global_batch_size), value)
            by_seed.setdefault(branch.seed, []).append(point)
    slopes = [
        statistics.linear_regression(*zip(*points, strict=True)).slope
        for points in by_seed.values()
        if len(points) >= _LEAST_BATCHES
    ]
    return estimate_mean(slopes) if slopes else None
