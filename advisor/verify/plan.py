"""All that branches from one state show: critical batch, verdict, gap and sharpness."""

from collections.abc import Mapping, Sequence
from operator import attrgetter

from advisor.engine.conclusions import Topic
from advisor.rate.curves import find_samples_to, read_loss
from advisor.statistics import estimate_mean
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import ThroughputConclusion
from advisor.throughput.step_time import estimate_step_s, read_throughput
from advisor.verify.data import (
    VERIFICATION,
    CurvePoint,
    VerificationConclusion,
    VerificationRecord,
    VerifiedBatch,
)
from advisor.verify.generalisation import (
    describe_gap_growth,
    estimate_over_seeds,
    estimate_slope,
    read_gap,
)
from advisor.verify.groups import (
    CURVE_POINTS,
    BatchBranches,
    Comparison,
    Standing,
    find_common_samples,
    group_branches,
)
from advisor.verify.judgement import judge_batches, judge_recommendation

#: Relative difference of the first losses beyond which branches do not start from one state: the
#: same training on the same device repeats itself to rounding.
_SAME_START = 1e-3


def conclude_verification(
    verification: VerificationRecord | None, throughput: ThroughputConclusion | None
) -> VerificationConclusion | None:
    """Return what the branches show by the run's step times; None where none was trained."""
    if verification is None or not verification.branches:
        return None
    groups = group_branches(verification.branches)
    samples, recommended = find_common_samples(groups), verification.recommended_batch_size
    standings, critical = judge_batches(groups, samples)
    step_s = _time_steps(groups, throughput)
    at_time, verdict = judge_recommendation(
        groups, step_s, recommended=recommended, samples=samples
    )
    gap_slope = estimate_slope(groups, read_gap)
    sharpness_slope = estimate_slope(groups, attrgetter("sharpness"))
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
            _describe(
                group, standings[group.global_batch_size], at_time, samples=samples, step_s=step_s
            )
            for group in groups
        ),
        gap_per_doubling=gap_slope,
        sharpness_per_doubling=sharpness_slope,
        sharpness_failure="; ".join(sorted(failures)) or None,
        from_checkpoint=verification.checkpoint,
        warnings=_warn(groups, describe_gap_growth(gap_slope, sharpness_slope)),
    )


def _time_steps(
    groups: Sequence[BatchBranches], throughput: ThroughputConclusion | None
) -> dict[int, float]:
    times, step_s = read_throughput(throughput), dict[int, float]()
    for first in (group.branches[0] for group in groups):
        time_s = estimate_step_s(times, *first.split, may_extrapolate=False)
        if time_s is not None:
            step_s[first.global_batch_size] = time_s
    return step_s


def _describe(
    group: BatchBranches,
    standing: Standing,
    at_time: Comparison | None,
    *,
    samples: int,
    step_s: Mapping[int, float],
) -> VerifiedBatch:
    first, diverged, size = group.branches[0], group.diverged, group.global_batch_size
    own_s, then, to_target_s = step_s.get(size), Standing(), None
    if at_time is not None and own_s is not None and size in at_time.standings:
        then = at_time.standings[size]
        found = [find_samples_to(each.evaluations, at_time.lowest) for each in group.branches]
        reached_s = [samples / size * own_s for samples in found if samples is not None]
        to_target_s = estimate_mean(reached_s) if len(reached_s) == len(found) else None
    return VerifiedBatch(
        global_batch_size=size,
        micro_batch_size=first.micro_batch_size,
        gradient_accumulation_steps=first.gradient_accumulation_steps,
        learning_rate=first.learning_rate,
        seeds=len(group.branches),
        diverged=diverged,
        standing=standing.standing,
        end_loss=standing.loss,
        excess=standing.excess,
        step_s=own_s,
        loss_at_equal_time=then.loss,
        time_to_target_s=to_target_s,
        generalisation_gap=estimate_over_seeds(group, read_gap),
        sharpness=estimate_over_seeds(group, attrgetter("sharpness")),
        curve=tuple(
            CurvePoint(
                samples=point,
                time_s=None if own_s is None else point / size * own_s,
                loss=estimate_mean([read_loss(branch, point) for branch in group.branches]),
            )
            for point in sorted(
                {round(samples * k / CURVE_POINTS) for k in range(CURVE_POINTS + 1)}
            )
            if not diverged
        ),
    )


def _warn(groups: Sequence[BatchBranches], gap_growth: str | None) -> tuple[str, ...]:
    branches = [branch for group in groups for branch in group.branches]
    starts = [branch.evaluations[0].loss for branch in branches if branch.evaluations]
    warnings = [] if gap_growth is None else [gap_growth]
    if starts and max(starts) - min(starts) > _SAME_START * max(map(abs, starts)):
        warnings.insert(
            0,
            "The branches do not start from the same loss, so they are not comparable. Run verify "
            "again with --restart.",
        )
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
