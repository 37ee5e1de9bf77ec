"""The critical batch as training measured it: how large a batch may be at no loss of samples.

From one state each batch trains on as many samples, with the rate that goes with it. The critical
batch is the largest whose loss at the end is within a margin of the best batch's. A noise scale is
only a proxy for it.

The margin is 1 % of the best batch's loss, or 5 % of what the loss fell from the common start where
that is more. The first is the published one, for language models, whose loss stays far above zero;
where it comes near zero, 1 % of it is far below the noise of training, and the second decides.
"""

import math
import statistics
from collections.abc import Sequence

import msgspec

from advisor.rate.trial import TOLERANCE_FRACTION
from advisor.statistics import Estimate, two_sided_t
from advisor.verify.branch_curves import BatchBranches, estimate_mean, pair_seeds, read_end
from advisor.verify.data import BatchStanding, CriticalBatch

#: Share of the loss that counts as equal.
LOSS_FRACTION = 0.01
#: Most seeds worth naming: where more are needed, longer branches are the better answer.
_MOST_SEEDS = 200


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One batch beside the best.

    Attributes:
        standing: Which side of the margin the interval of the excess is on.
        end_loss: Over seeds; None where a branch diverged.
        excess: End loss over the best batch's, paired by seed; None where a branch diverged or no
            seed is shared.
    """

    global_batch_size: int
    standing: BatchStanding
    end_loss: Estimate | None = None
    excess: Estimate | None = None


def judge_batches(
    groups: Sequence[BatchBranches], samples: int
) -> tuple[tuple[Standing, ...], CriticalBatch]:
    """Return where every batch stands, and the critical batch.

    A batch holds if the 95 % interval of its excess, paired by seed, lies below the margin, and
    fails if it lies above; between, its mean decides. The answer is inconclusive where such a batch
    has an interval wider than the margin on either side, unless it is the only one in doubt between
    a batch that holds and the first that fails: then these two are the interval's ends.

    Args:
        groups: By batch, smallest first.
        samples: At which they are compared.

    Source: Merrill et al. 2025, arXiv:2505.23971, for branches and their tolerance; the margin's
    floor and the intervals are derived.
    """
    usable = [group for group in groups if not group.diverged]
    if not usable:
        standings = tuple(_mark_diverged(group) for group in groups)
        return standings, CriticalBatch(
            status="inconclusive", reason="every batch diverged, or none was trained"
        )
    ends = {
        group.global_batch_size: [read_end(branch, samples) for branch in group.branches]
        for group in usable
    }
    best = min(usable, key=lambda group: statistics.fmean(ends[group.global_batch_size]))
    lowest = statistics.fmean(ends[best.global_batch_size])
    start = statistics.fmean(each.evaluations[0].loss for each in best.branches)
    margin = measure_margin(start, lowest)
    standings = tuple(
        _mark_diverged(group)
        if group.diverged
        else _stand(group, best, samples, margin, ends[group.global_batch_size])
        for group in groups
    )
    if start - lowest <= margin:
        reason = "no batch lowered the loss: the branches are too short, or the state is trained"
        return standings, CriticalBatch(status="inconclusive", reason=reason, margin=margin)
    return standings, _conclude(standings, best, margin)


def measure_margin(start: float, lowest: float) -> float:
    """Return the difference in loss that counts as equal.

    Args:
        start: Loss of the common state.
        lowest: Loss of the best batch.

    Source: Merrill et al. 2025, arXiv:2505.23971, for the share of the loss; that of the fall is
    the trial's.
    """
    return max(LOSS_FRACTION * abs(lowest), TOLERANCE_FRACTION * (start - lowest))


def _mark_diverged(group: BatchBranches) -> Standing:
    return Standing(global_batch_size=group.global_batch_size, standing="diverged")


def _stand(
    group: BatchBranches,
    best: BatchBranches,
    samples: int,
    margin: float,
    ends: Sequence[float],
) -> Standing:
    pairs = pair_seeds(best, group)
    excess = None
    standing: BatchStanding = "undecided"
    if group is best:
        standing, excess = "holds", Estimate(0.0, 0.0, 0.0)
    elif pairs:
        excess = estimate_mean([read_end(b, samples) - read_end(a, samples) for a, b in pairs])
        if excess.high is not None and excess.high <= margin:
            standing = "holds"
        elif excess.low is not None and excess.low > margin:
            standing = "fails"
    return Standing(
        global_batch_size=group.global_batch_size,
        standing=standing,
        end_loss=estimate_mean(ends),
        excess=excess,
    )


def _conclude(standings: Sequence[Standing], best: BatchBranches, margin: float) -> CriticalBatch:
    """Return the critical batch from where every batch stands, smallest first."""
    critical = max(each.global_batch_size for each in standings if _is_within(each, margin))
    surely = max(each.global_batch_size for each in standings if each.standing == "holds")
    above = [each for each in standings if each.global_batch_size > surely]
    fails = _find_first_failure(above)
    doubtful = [
        each
        for each in above
        if each.standing == "undecided" and (fails is None or each.global_batch_size < fails)
    ]
    sizes = [each.global_batch_size for each in standings]
    is_open_below = critical == sizes[0]
    found = CriticalBatch(
        status="measured",
        reason="",
        batch_size=critical,
        low=None if surely == sizes[0] else surely,
        high=fails,
        best_batch_size=best.global_batch_size,
        margin=margin,
    )
    noisy = [each for each in doubtful if _half_width(each) > margin]
    # One batch in doubt between one that holds and one that fails is an answer with its interval.
    if noisy and (fails is None or len(doubtful) > 1):
        return msgspec.structs.replace(
            found,
            status="inconclusive",
            batch_size=None,
            reason=_explain_noise(noisy),
            needed_seeds=_count_needed_seeds(noisy, len(best.branches), margin),
        )
    if critical == sizes[-1]:
        reason = "the largest batch tried is still within the margin of the best"
        return msgspec.structs.replace(found, status="at_least", high=None, reason=reason)
    if is_open_below:
        reason = "only the smallest batch tried is within the margin: a smaller one may be better"
        return msgspec.structs.replace(found, status="at_most", low=None, reason=reason)
    following = min(size for size in sizes if size > critical)
    reason = f"batch {critical} is within the margin of the best and batch {following} is not"
    return msgspec.structs.replace(found, reason=reason)


def _is_within(each: Standing, margin: float) -> bool:
    return each.excess is not None and each.excess.point is not None and each.excess.point <= margin


def _find_first_failure(above: Sequence[Standing]) -> int | None:
    """Return the smallest batch from which on all fail; None where the last does not."""
    first = None
    for each in reversed(above):
        if each.standing not in {"fails", "diverged"}:
            break
        first = each.global_batch_size
    return first


def _half_width(each: Standing) -> float:
    if each.excess is None or each.excess.high is None or each.excess.point is None:
        return math.inf
    return each.excess.high - each.excess.point


def _explain_noise(noisy: Sequence[Standing]) -> str:
    sizes = ", ".join(str(each.global_batch_size) for each in noisy)
    noun = "batch" if len(noisy) == 1 else "batches"
    return f"at {noun} {sizes} the noise over seeds is above the margin"


def _count_needed_seeds(noisy: Sequence[Standing], seeds: int, margin: float) -> int | None:
    """Return the fewest seeds whose interval is as narrow as the margin; None beyond reason."""
    worst = max(_half_width(each) for each in noisy)
    if math.isinf(worst) or seeds < 2:
        return None
    deviation = worst * math.sqrt(seeds) / two_sided_t(0.95, seeds - 1)
    for count in range(seeds + 1, _MOST_SEEDS + 1):
        if two_sided_t(0.95, count - 1) * deviation / math.sqrt(count) <= margin:
            return count
    return None
