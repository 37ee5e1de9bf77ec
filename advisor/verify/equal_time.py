"""Which batch is furthest after equal training time: the test of a recommendation."""

from collections.abc import Mapping, Sequence

from advisor.verify.data import BatchStanding, Verdict, VerdictStatus
from advisor.verify.groups import BatchBranches, Comparison, compare_batches

_VERDICTS: dict[BatchStanding, tuple[VerdictStatus, str]] = {
    "holds": ("holds", "after equal time it is within the margin of the best"),
    "fails": ("beaten", "after equal time batch {best} is further"),
    "undecided": ("inconclusive", "the seeds differ too much to tell it from batch {best}"),
}


def judge_recommendation(
    groups: Sequence[BatchBranches],
    step_s: Mapping[int, float],
    *,
    recommended: int,
    samples: int,
) -> tuple[Comparison | None, Verdict]:
    """Return every batch after equal time, and whether the recommended one is as far as the best.

    All branches consume as many samples, so that of the fastest batch ends first: the losses are
    read then. No branch is extended beyond what was trained.

    Args:
        groups: By batch.
        step_s: Seconds of a step by batch.
        recommended: The batch to judge.
        samples: That every branch consumed.
    """
    usable = [
        group.global_batch_size
        for group in groups
        if not group.diverged and group.global_batch_size in step_s
    ]
    if recommended not in usable:
        return None, _explain_absence(groups, recommended)
    time_s = min(samples / size * step_s[size] for size in usable)
    compared = compare_batches(groups, {size: time_s / step_s[size] * size for size in usable})
    assert compared is not None
    best, own = compared.best.global_batch_size, compared.standings[recommended]
    assert own.loss is not None
    status, reason = _VERDICTS[own.standing]
    reason = f"{reason.format(best=best)}: loss {own.loss.point:.3g} against "
    reason += f"{compared.lowest:.3g} at batch {best}"
    if best == recommended:
        reason = "after equal time no batch has a lower loss"
    return compared, Verdict(
        status=status,
        reason=reason,
        equal_time_s=time_s,
        target_loss=compared.lowest,
        margin=compared.margin,
        best_batch_size=best,
    )


def _explain_absence(groups: Sequence[BatchBranches], recommended: int) -> Verdict:
    own = next((group for group in groups if group.global_batch_size == recommended), None)
    if own is None:
        reason = "the recommended batch was not trained"
    elif own.diverged:
        count = f"{own.diverged} of {len(own.branches)} seeds"
        return Verdict(status="beaten", reason=f"the recommended pair diverged from {count}")
    else:
        reason = "the run did not time the recommended batch"
    return Verdict(status="inconclusive", reason=reason)
