"""Generalisation gap and sharpness by batch, and whether they grow with it."""

import math
import statistics
from collections.abc import Callable, Sequence

from advisor.statistics import Estimate, estimate_mean
from advisor.verify.data import VerificationBranch
from advisor.verify.groups import END_READINGS, BatchBranches

#: Fewest batches on which a slope rests.
_LEAST_BATCHES = 3

Read = Callable[[VerificationBranch], float | None]


def read_gap(branch: VerificationBranch) -> float | None:
    """Return held-out minus training loss at the end, both in eval mode."""
    tail = branch.held_out[1:][-END_READINGS:]
    if not tail:
        return None
    return statistics.fmean(each.held_out_loss - each.train_loss for each in tail)


def estimate_over_seeds(group: BatchBranches, read: Read) -> Estimate | None:
    """Return the mean over the seeds that have it; None where a branch diverged."""
    values = [value for branch in group.branches if (value := read(branch)) is not None]
    return estimate_mean(values) if values and not group.diverged else None


def estimate_slope(groups: Sequence[BatchBranches], read: Read) -> Estimate | None:
    """Return how much a value grows when the batch doubles, by a line of each seed, where known.

    Source: after Keskar et al. 2016, arXiv:1609.04836: large batches tend to sharp minima that
    generalise worse.
    """
    by_seed: dict[int, list[tuple[float, float]]] = {}
    for group in groups:
        for branch in () if group.diverged else group.branches:
            value = read(branch)
            if value is not None:
                point = (math.log2(group.global_batch_size), value)
                by_seed.setdefault(branch.seed, []).append(point)
    slopes = [
        statistics.linear_regression(*zip(*points, strict=True)).slope
        for points in by_seed.values()
        if len(points) >= _LEAST_BATCHES
    ]
    return estimate_mean(slopes) if slopes else None


def describe_gap_growth(gap: Estimate | None, sharpness: Estimate | None) -> str | None:
    """Return the warning where the gap surely widens with the batch, else None.

    It says whether the measured sharpness, which would explain it, rises as well.
    """
    if gap is None or gap.low is None or gap.low <= 0.0:
        return None
    if sharpness is None or sharpness.point is None:
        minima = "the sharpness at the end was not measured at enough batches"
    elif sharpness.low is None or sharpness.high is None:
        minima = "one seed does not tell whether the sharpness rises"
    elif sharpness.high < 0.0:
        minima = f"yet the sharpness at the end falls, by {-sharpness.point:.2g}"
    else:
        interval = _write_interval(sharpness)
        minima = f"whether the sharpness at the end rises is not told ({interval})"
        if sharpness.low > 0.0:
            minima = f"the sharpness at the end rises too, by {sharpness.point:.2g} ({interval})"
    return (
        f"Held-out loss falls behind training loss by {gap.point:.2g} more with each doubling of "
        f"the batch ({_write_interval(gap)}): larger batches may end in sharper minima "
        f"(Keskar 2016); {minima}. Prefer the smaller end of the range, or compare held-out loss "
        "after a full training."
    )


def _write_interval(slope: Estimate) -> str:
    return f"95 % interval {slope.low:.2g} to {slope.high:.2g}"
