"""All that branches from one state show: critical batch, verdict, gap and sharpness."""

import statistics
from collections.abc import Sequence
from operator import attrgetter

from advisor.engine.record import Topic
from advisor.rate.curves import find_samples_to, read_loss
from advisor.statistics import Estimate, estimate_mean
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import ThroughputConclusion
from advisor.throughput.step_time import estimate_step_s, read_throughput
from advisor.verify.data import (
    VERIFICATION,
    CurvePoint,
    VerificationBranch,
    VerificationConclusion,
    VerificationRecord,
    VerifiedBatch,
)
from advisor.verify.groups import (
    CURVE_POINTS,
    END_READINGS,
    BatchBranches,
    Comparison,
    Standing,
    estimate_slope,
    find_common_samples,
    group_branches,
)
from advisor.verify.judgement import judge_batches, judge_recommendation

#: Relative difference of the first losses beyond which branches do not start from one state: the
#: same training on the same device repeats itself to rounding.
_SAME_START = 1e-3
_read_sharpness = attrgetter("sharpness")


def conclude_verification(
    verification: VerificationRecord | None, throughput: ThroughputConclusion | None
) -> VerificationConclusion | None:
    """Return what the branches show by the run's step times; None where none was trained."""
    if verification is None or not verification.branches:
        return None
    times = read_throughput(throughput)
    groups = [
        BatchBranches(each.branches, estimate_step_s(times, *each.split, may_extrapolate=False))
        for each in group_branches(verification.branches)
    ]
    samples, recommended = find_common_samples(groups), verification.recommended_batch_size
    standings, critical = judge_batches(groups, samples)
    at_time, verdict = judge_recommendation(groups, recommended=recommended, samples=samples)
    gap_slope = estimate_slope(groups, _read_gap)
    sharpness_slope = estimate_slope(groups, _read_sharpness)
    converged = [one for group in groups if not group.diverged for one in group.branches]
    failures = {one.sharpness_failure for one in converged if one.sharpness_failure is not None}
    return VerificationConclusion(
        recommended_batch_size=recommended,
        samples=samples,
        trunk_steps=verification.trunk_steps,
        seeds=min(len(group.branches) for group in groups),
        critical_batch=critical,
        verdict=verdict,
        batches=tuple(
            _describe(group, standings[group.global_batch_size], at_time, samples)
            for group in groups
        ),
        gap_per_doubling=gap_slope,
        sharpness_per_doubling=sharpness_slope,
        sharpness_failure="; ".join(sorted(failures)) or None,
        from_checkpoint=verification.checkpoint,
        warnings=_warn(groups, _describe_gap_growth(gap_slope, sharpness_slope)),
    )


def _read_gap(branch: VerificationBranch) -> float | None:
    """Return held-out minus training loss at the end, both in eval mode."""
    tail = branch.held_out[1:][-END_READINGS:]
    gaps = [each.held_out_loss - each.train_loss for each in tail]
    return statistics.fmean(gaps) if gaps else None


def _describe(
    group: BatchBranches, standing: Standing, at_time: Comparison | None, samples: int
) -> VerifiedBatch:
    diverged, size, step_s = group.diverged, group.global_batch_size, group.step_s
    micro_batch_size, accumulation = group.split
    then, to_target_s = Standing(), None
    if at_time is not None and step_s is not None and size in at_time.standings:
        then = at_time.standings[size]
        found = [find_samples_to(each.evaluations, at_time.lowest) for each in group.branches]
        reached_s = [samples / size * step_s for samples in found if samples is not None]
        to_target_s = estimate_mean(reached_s) if len(reached_s) == len(found) else None
    points = sorted({round(samples * k / CURVE_POINTS) for k in range(CURVE_POINTS + 1)})
    return VerifiedBatch(
        global_batch_size=size,
        micro_batch_size=micro_batch_size,
        gradient_accumulation_steps=accumulation,
        learning_rate=group.branches[0].learning_rate,
        seeds=len(group.branches),
        diverged=diverged,
        standing=standing.standing,
        end_loss=standing.loss,
        excess=standing.excess,
        step_s=step_s,
        loss_at_equal_time=then.loss,
        time_to_target_s=to_target_s,
        generalisation_gap=group.estimate(_read_gap),
        sharpness=group.estimate(_read_sharpness),
        curve=tuple(
            CurvePoint(
                samples=point,
                time_s=None if step_s is None else point / size * step_s,
                loss=estimate_mean([read_loss(branch, point) for branch in group.branches]),
            )
            for point in points
            if not diverged
        ),
    )


def _describe_gap_growth(gap: Estimate | None, sharpness: Estimate | None) -> str | None:
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


def _warn(groups: Sequence[BatchBranches], gap_growth: str | None) -> tuple[str, ...]:
    branches = [branch for group in groups for branch in group.branches]
    starts = [branch.evaluations[0].loss for branch in branches if branch.evaluations]
    warnings = []
    if starts and max(starts) - min(starts) > _SAME_START * max(map(abs, starts)):
        warnings.append(
            "The branches do not start from the same loss, so they are not comparable. Run verify "
            "again with --restart."
        )
    warnings += [] if gap_growth is None else [gap_growth]
    warnings += [
        f"The held-out loss could not be taken in eval mode ({failure}). Make the model return the "
        "same output in both modes."
        for failure in sorted({each.held_out_failure for each in branches} - {None}, key=str)
    ]
    return tuple(warnings)


VERIFICATION_TOPIC = Topic(
    "verification",
    VerificationConclusion,
    lambda found: conclude_verification(found.record.get(VERIFICATION), found.of(THROUGHPUT)),
)
