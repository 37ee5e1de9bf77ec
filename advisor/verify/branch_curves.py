"""Losses along branches of one state, read at equal samples."""

import math
import statistics
from collections.abc import Sequence

import msgspec

from advisor.rate.trial_curves import has_diverged, read_loss
from advisor.statistics import Estimate, two_sided_t
from advisor.verify.data import VerificationBranch

#: Parts of a branch at whose ends its loss is read, as often as it was evaluated.
CURVE_POINTS = 20
#: Readings at the end whose mean is a branch's result: one alone may be a lucky dip.
END_READINGS = 3


class BatchBranches(msgspec.Struct, frozen=True, kw_only=True):
    """The branches of one batch and rate, by seed."""

    branches: tuple[VerificationBranch, ...]

    @property
    def first(self) -> VerificationBranch:
        """Any one of them, for the settings that they share."""
        return self.branches[0]

    @property
    def global_batch_size(self) -> int:
        """Samples of one optimizer step."""
        return self.first.global_batch_size

    @property
    def diverged(self) -> int:
        """How many of them diverged."""
        return sum(has_diverged(branch) for branch in self.branches)


def group_branches(branches: Sequence[VerificationBranch]) -> tuple[BatchBranches, ...]:
    """Return the branches by batch, smallest first; of several rates the best one's.

    The best rate is that of the lowest mean loss at the end, those that diverged last.

    Source: derived.
    """
    groups: dict[tuple[int, float], dict[int, VerificationBranch]] = {}
    for branch in branches:
        if branch.evaluations or branch.diverged:
            key = (branch.global_batch_size, _round(branch.learning_rate))
            groups.setdefault(key, {})[branch.seed] = branch
    best: dict[int, BatchBranches] = {}
    for (size, _), by_seed in groups.items():
        group = BatchBranches(branches=tuple(by_seed[seed] for seed in sorted(by_seed)))
        if size not in best or _rank(group) < _rank(best[size]):
            best[size] = group
    return tuple(best[size] for size in sorted(best))


def find_common_samples(groups: Sequence[BatchBranches]) -> int:
    """Return the samples that every branch consumed which did not diverge; 0 without any.

    Source: derived.
    """
    ends = [
        branch.evaluations[-1].samples
        for group in groups
        for branch in group.branches
        if not has_diverged(branch)
    ]
    return min(ends, default=0)


def read_end(branch: VerificationBranch, samples: float) -> float:
    """Return the mean of the last readings up to so many samples.

    Source: derived.
    """
    part = samples / CURVE_POINTS
    return statistics.fmean(read_loss(branch, samples - k * part) for k in range(END_READINGS))


def estimate_mean(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Return the mean with its t-interval; the interval of one value alone is unknown.

    The values are assumed independent and about normal: seeds are.

    Source: Student 1908.
    """
    point = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(point, None, None, confidence)
    error = statistics.stdev(values) / math.sqrt(len(values))
    half_width = two_sided_t(confidence, len(values) - 1) * error
    return Estimate(point, point - half_width, point + half_width, confidence)


def pair_seeds(
    one: BatchBranches, other: BatchBranches
) -> tuple[tuple[VerificationBranch, VerificationBranch], ...]:
    """Return the branches of two batches that share a seed, and so the order of the data.

    Source: derived.
    """
    own = {branch.seed: branch for branch in one.branches}
    shared = [branch for branch in other.branches if branch.seed in own]
    return tuple((own[branch.seed], branch) for branch in shared)


def _rank(group: BatchBranches) -> tuple[int, float]:
    if group.diverged:
        return group.diverged, math.inf
    samples = find_common_samples([group])
    return 0, statistics.fmean(read_end(branch, samples) for branch in group.branches)


def _round(rate: float) -> float:
    """Return the rate as a key: rates that differ by rounding alone share it."""
    return float(f"{rate:.9e}")
