"""Generalisation gap and sharpness by batch, and whether they grow with it.

The gap is held-out over training loss; the sharpness is the Hessian's largest eigenvalue.
"""

import math
import statistics
from collections.abc import Callable, Sequence

from advisor.statistics import Estimate
from advisor.verify.branch_curves import END_READINGS, BatchBranches, estimate_mean
from advisor.verify.data import VerificationBranch

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
    return _estimate_slope(groups, _read_gap)


def estimate_sharpness(group: BatchBranches) -> Estimate | None:
    """Return the sharpness at the end, over seeds; None where a branch diverged.

    Source: derived.
    """
    seen = [branch.sharpness for branch in group.branches if branch.sharpness is not None]
    return estimate_mean(seen) if seen and not group.diverged else None


def estimate_sharpness_slope(groups: Sequence[BatchBranches]) -> Estimate | None:
    """Return how much the sharpness at the end grows when the batch doubles, over seeds.

    For each seed a straight line is fitted over the logarithm of the batch, as for the gap.

    Source: derived, after Keskar et al. 2016, arXiv:1609.04836.
    """
    return _estimate_slope(groups, lambda branch: branch.sharpness)


def list_sharpness_failures(groups: Sequence[BatchBranches]) -> tuple[str, ...]:
    """Return why branches have no sharpness, each reason once; none of a batch that diverged.

    Source: derived.
    """
    failures = {
        branch.sharpness_failure
        for group in groups
        for branch in (() if group.diverged else group.branches)
        if branch.sharpness_failure is not None
    }
    return tuple(sorted(failures))


def describe_gap_growth(gap: Estimate | None, sharpness: Estimate | None) -> str | None:
    """Return the warning where the gap surely widens with the batch, else None.

    It says whether the measured sharpness, which would explain it, rises as well.

    Source: Keskar et al. 2016, arXiv:1609.04836.
    """
    if gap is None or gap.low is None or gap.low <= 0.0:
        return None
    return (
        f"Held-out loss falls behind training loss by {gap.point:.2g} more with each doubling of "
        f"the batch ({_write_interval(gap)}): larger batches may end in sharper minima "
        f"(Keskar 2016); {_describe_sharpness_growth(sharpness)}. Prefer the smaller end of the "
        "range, or compare held-out loss after a full training."
    )


def _describe_sharpness_growth(slope: Estimate | None) -> str:
    if slope is None:
        return "the sharpness at the end was not measured at enough batches"
    if slope.low is None or slope.high is None:
        return "one seed does not tell whether the sharpness rises"
    if slope.low > 0.0:
        return (
            f"the sharpness at the end rises too, by {slope.point:.2g} ({_write_interval(slope)})"
        )
    if slope.high < 0.0:
        return f"yet the sharpness at the end falls, by {-(slope.point or 0.0):.2g}"
    return f"whether the sharpness at the end rises is not told ({_write_interval(slope)})"


def _write_interval(slope: Estimate) -> str:
    return f"95 % interval {slope.low:.2g} to {slope.high:.2g}"


def _estimate_slope(
    groups: Sequence[BatchBranches], read: Callable[[VerificationBranch], float | None]
) -> Estimate | None:
    """Return the slope over log2 of the batch, fitted for each seed; None where unknown."""
    by_seed: dict[int, list[tuple[float, float]]] = {}
    for group in groups:
        for branch in () if group.diverged else group.branches:
            value = read(branch)
            if value is not None:
                point = (math.log2(group.global_batch_size), value)
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
