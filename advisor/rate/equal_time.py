"""Which batch is furthest after equal training time: the test of a recommendation.

All branches consume as many samples, so those of fast batches end first. At that moment every
batch's loss is read; no branch is extended beyond what was trained.
"""

import statistics
from collections.abc import Mapping, Sequence

import msgspec

from advisor.rate.trial_curves import find_samples_to
from advisor.statistics import Estimate
from advisor.throughput.data import ThroughputConclusion, ThroughputPoint
from advisor.verify.branch_curves import BatchBranches, estimate_mean, pair_seeds, read_end
from advisor.verify.critical_batch import measure_margin
from advisor.verify.data import Verdict


class AtEqualTime(msgspec.Struct, frozen=True, kw_only=True):
    """One batch after equal time.

    Attributes:
        loss: Over seeds.
        time_to_target_s: Over seeds; None where one does not reach the target.
    """

    loss: Estimate
    time_to_target_s: Estimate | None


def estimate_branch_step_s(
    throughput: ThroughputConclusion | None, micro_batch_size: int, accumulation: int
) -> float | None:
    """Return the seconds of an optimizer step by the run's timing; None outside what it timed.

    Between two timed micro-batches the time lies on a straight line. An accumulated step is its
    forward and backward passes plus one optimizer step, or whole steps where no part was timed.

    Source: derived; within the range the step time is affine (docs/method.md, section 1).
    """
    if throughput is None:
        return None
    points = sorted(throughput.points, key=lambda point: point.micro_batch_size)
    timed = [point for point in points if point.step_s.point is not None]
    below = [point for point in timed if point.micro_batch_size <= micro_batch_size]
    above = [point for point in timed if point.micro_batch_size >= micro_batch_size]
    if not below or not above:
        return None
    whole = _interpolate(below[-1], above[0], micro_batch_size, part=False)
    if accumulation == 1 or whole is None:
        return whole
    micro = _interpolate(below[-1], above[0], micro_batch_size, part=True)
    if micro is None:
        return accumulation * whole
    return accumulation * micro + (throughput.optimizer_step_s or 0.0)


def judge_recommendation(
    groups: Sequence[BatchBranches],
    step_s: Mapping[int, float],
    *,
    recommended: int,
    samples: int,
) -> tuple[dict[int, AtEqualTime], Verdict]:
    """Return every batch after equal time, and whether the recommended one is as far as the best.

    It holds if its loss lies within the margin of the best batch's, with the whole 95 % interval of
    the difference, paired by seed; it is beaten if the whole interval lies above. The margin is as
    for the critical batch.

    Args:
        groups: By batch.
        step_s: Seconds of a step by batch.
        recommended: The batch to judge.
        samples: That every branch consumed.

    Source: derived.
    """
    usable = {
        group.global_batch_size: group
        for group in groups
        if not group.diverged and group.global_batch_size in step_s
    }
    if recommended not in usable:
        return {}, _explain_absence(groups, recommended)
    time_s = min(samples / size * step_s[size] for size in usable)
    losses = {
        size: [read_end(branch, time_s / step_s[size] * size) for branch in group.branches]
        for size, group in usable.items()
    }
    best = min(losses, key=lambda size: statistics.fmean(losses[size]))
    target = statistics.fmean(losses[best])
    at_time = {
        size: AtEqualTime(
            loss=estimate_mean(losses[size]),
            time_to_target_s=_estimate_time(group, target, step_s[size] / size),
        )
        for size, group in usable.items()
    }
    start = statistics.fmean(each.evaluations[0].loss for each in usable[best].branches)
    margin = measure_margin(start, target)
    behind = estimate_mean(
        [
            read_end(own, time_s / step_s[recommended] * recommended)
            - read_end(other, time_s / step_s[best] * best)
            for other, own in pair_seeds(usable[best], usable[recommended])
        ]
        or [0.0]
    )
    verdict = Verdict(
        status="inconclusive",
        reason="",
        equal_time_s=time_s,
        target_loss=target,
        margin=margin,
        best_batch_size=best,
    )
    return at_time, _decide(verdict, at_time, recommended, behind)


def _interpolate(
    below: ThroughputPoint, above: ThroughputPoint, size: int, *, part: bool
) -> float | None:
    low, high = (point.micro_step_s if part else point.step_s.point for point in (below, above))
    if low is None or high is None:
        return None
    span = above.micro_batch_size - below.micro_batch_size
    share = 0.0 if span == 0 else (size - below.micro_batch_size) / span
    return low + share * (high - low)


def _explain_absence(groups: Sequence[BatchBranches], recommended: int) -> Verdict:
    own = [group for group in groups if group.global_batch_size == recommended]
    if own and own[0].diverged:
        count = f"{own[0].diverged} of {len(own[0].branches)} seeds"
        reason = f"the recommended pair diverged from {count}"
        return Verdict(status="beaten", reason=reason)
    if not own:
        reason = "the recommended batch was not trained"
    else:
        reason = "the run did not time the recommended batch"
    return Verdict(status="inconclusive", reason=reason)


def _estimate_time(group: BatchBranches, target: float, sample_s: float) -> Estimate | None:
    found = [find_samples_to(branch.evaluations, target) for branch in group.branches]
    reached = [samples * sample_s for samples in found if samples is not None]
    return estimate_mean(reached) if len(reached) == len(found) else None


def _decide(
    verdict: Verdict, at_time: Mapping[int, AtEqualTime], recommended: int, behind: Estimate
) -> Verdict:
    best, margin = verdict.best_batch_size, verdict.margin
    assert best is not None
    assert margin is not None
    own, other = at_time[recommended].loss.point, at_time[best].loss.point
    figures = f"loss {own:.3g} against {other:.3g} at batch {best}"
    if best == recommended:
        reason = "after equal time no batch has a lower loss"
        return msgspec.structs.replace(verdict, status="holds", reason=reason)
    if behind.high is not None and behind.high <= margin:
        reason = f"after equal time it is within the margin of the best: {figures}"
        return msgspec.structs.replace(verdict, status="holds", reason=reason)
    if behind.low is not None and behind.low > margin:
        reason = f"after equal time batch {best} is further: {figures}"
        return msgspec.structs.replace(verdict, status="beaten", reason=reason)
    reason = f"the seeds differ too much to tell it from batch {best}: {figures}"
    return msgspec.structs.replace(verdict, reason=reason)
