"""The generalisation gap by batch: held-out over training loss, and whether it widens."""

import math
import statistics
from collections.abc import Sequence

from advisor.analysis.branch_curves import END_READINGS, BatchBranches, estimate_mean
from advisor.measurements import VerificationBranch
from advisor.statistics import Estimate

#: Fewest batches on which a slope rests.
_LEAST_BATCHES = 3


def estimate_gap(group: BatchBranches) -> Estimate | None:
    """Return held-out minus training loss at the end, both in eval mode, over seeds.

    Source: derived.
    """
    gaps = [gap for branch in group.branches if (gap := _read_gap(branch)) is not None]
    return estimate_mean(gaps) if gaps else None


def estimate_gap_slope(groups: Sequence[BatchBranches]) -> Estimate | None:
    """Return how much the gap grows when the batch doubles, over seeds; None where unknown.

    For each seed a straight line is fitted to the gap over the logarithm of the batch.

    Source: derived, after Keskar et al. 2016, arXiv:1609.04836: large batches tend to sharp minima
    that generalise worse.
    """
    by_seed: dict[int, list[tuple[float, float]]] = {}
    for group in groups:
        for branch in () if group.diverged else group.branches:
            gap = _read_gap(branch)
            if gap is not None:
                point = (math.log2(group.global_batch_size), gap)
                by_seed.setdefault(branch.seed, []).append(point)
    slopes = [
        statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope
        for points in by_seed.values()
        if len(points) >= _LEAST_BATCHES
    ]
    return estimate_mean(slopes) if slopes else None


def _read_gap(branch: VerificationBranch) -> float | None:
    tail = branch.held_out[1:][-END_READINGS:]
    if not tail:
        return None
    return statistics.fmean(each.held_out_loss - each.train_loss for each in tail)
