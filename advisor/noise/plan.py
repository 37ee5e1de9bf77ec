"""The noise scale of a training run, or the reason why there is none."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from advisor.engine.conclusions import Conclusions, Topic
from advisor.noise.course import explain_settled, fit_trend
from advisor.noise.data import (
    NOISE_BATCHES,
    NOISE_LOG,
    NoiseBatches,
    NoiseConclusion,
    NoiseLogEntry,
    NoisePoint,
    NoiseStatus,
    NoiseTrend,
    choose_metric,
)
from advisor.noise.log_points import LEAST_STEPS, estimate_log_points
from advisor.noise.point import estimate_noise_point, pool_moments
from advisor.noise.trajectory import average_over_progress
from advisor.noise.wording import describe_points
from advisor.statistics import Estimate, median
from advisor.training.data import WorkloadFacts

__all__ = [
    "conclude_noise",
    "estimate_noise_point",
    "explain_absence",
    "explain_enough",
    "pool_moments",
]


def conclude_noise(
    facts: WorkloadFacts | None,
    batches: Sequence[NoiseBatches],
    log: Sequence[NoiseLogEntry] = (),
    *,
    sample_unit: Literal["sample", "token"] = "sample",
) -> NoiseConclusion:
    """Return the noise scale of the run, or the reason why there is none.

    The points are averaged over the progress they stand for, in the Euclidean metric and, over the
    points that have it, in the optimizer's metric. `status` speaks of the one the advice follows.

    Args:
        facts: What is known of the model file.
        batches: Measurements at points of one trajectory, or at checkpoints, in any order; those
            with fewer than two micro-batches or with sums that overflowed are left out.
        log: Measurements of a real run, which then stand alone.
        sample_unit: In what the user wants it told.

    Source: McCandlish et al. 2018, arXiv:1812.06162, appendix D, for the average over steps.
    """
    if facts is None:
        return _conclude_absence("the model file was not inspected")
    reason = explain_absence(facts, has_log=bool(log))
    if reason is not None:
        return _conclude_absence(reason)
    usable = () if log else _order(batch for batch in batches if _is_usable(batch))
    points = _estimate_points(facts, usable, log)
    if not points:
        return _conclude_absence(_explain_missing_points(log))
    batch_size = _typical_batch_size(usable, log)
    plain = average_over_progress(
        [point.at_step for point in points],
        [point.noise_scale for point in points],
        batch_size=batch_size,
    )
    adapted = _average_preconditioned(points, batch_size)
    decisive = adapted or plain
    trend = _fit_trend(points, adapted=adapted is not None)
    return NoiseConclusion(
        status=_name_status(decisive),
        reason=describe_points(
            facts, points, decisive, trend, adapted=adapted is not None, batches=usable, log=log
        ),
        noise_scale=plain,
        preconditioned_noise_scale=adapted,
        gradient_sqnorm=points[-1].gradient_sqnorm,
        gradient_cov_trace=points[-1].gradient_cov_trace,
        at_step=points[-1].at_step,
        micro_batch_size=_get_micro_batch_size(usable) or batch_size,
        points=points,
        trend=trend,
        sample_unit=sample_unit,
        tokens_per_sample=_count_tokens(usable) or facts.tokens_per_sample,
    )


def explain_enough(
    conclusion: NoiseConclusion, settling_noise_scale: float | None = None
) -> str | None:
    """Return why further points would not change the advice; None where they may.

    Args:
        conclusion: Of the points so far.
        settling_noise_scale: Noise scale, in samples, from which on the advised batch is the same.

    Source: derived; see `explain_settled`.
    """
    return explain_settled(
        [scale for _, scale in conclusion.course],
        conclusion.decisive,
        conclusion.trend,
        settling_noise_scale=settling_noise_scale,
    )


def _estimate_points(
    facts: WorkloadFacts, usable: Sequence[NoiseBatches], log: Sequence[NoiseLogEntry]
) -> tuple[NoisePoint, ...]:
    if log:
        return estimate_log_points(log, dataset_size=facts.dataset_size)
    return tuple(estimate_noise_point(point, dataset_size=facts.dataset_size) for point in usable)


def _order(batches: Iterable[NoiseBatches]) -> tuple[NoiseBatches, ...]:
    """Return the measurements by step; by their order where their steps cannot be compared."""
    found = tuple(batches)
    sources = {batch.step_source for batch in found}
    if "order" in sources or len(sources) > 1:
        return tuple(
            msgspec.structs.replace(batch, at_step=place, step_source="order")
            for place, batch in enumerate(found)
        )
    return tuple(sorted(found, key=lambda batch: batch.at_step))


def _explain_missing_points(log: Sequence[NoiseLogEntry]) -> str:
    if log:
        return f"the log has {len(log)} steps, too few: {LEAST_STEPS} are needed"
    return "no gradient measurement was reached before the run ended"


def _typical_batch_size(usable: Sequence[NoiseBatches], log: Sequence[NoiseLogEntry]) -> int:
    """Return the samples of each step of training; of each gradient where that is not known."""
    if log:
        return max(1, round(median([entry.samples for entry in log])))
    return usable[-1].training_batch_size or _get_micro_batch_size(usable) or 1


def _get_micro_batch_size(usable: Sequence[NoiseBatches]) -> int | None:
    """Return the samples of each gradient measured; None of a log, which holds no such thing."""
    if not usable:
        return None
    return usable[-1].micro_batch_size or max(usable[-1].micro_batch_sizes)


def _count_tokens(usable: Sequence[NoiseBatches]) -> float | None:
    """Return the mean weight of a sample; None where samples count alike."""
    weighted = [batch for batch in usable if batch.weights]
    samples = sum(sum(batch.micro_batch_sizes) for batch in weighted)
    return math.fsum(w for batch in weighted for w in batch.weights) / samples if samples else None


def _fit_trend(points: Sequence[NoisePoint], *, adapted: bool) -> NoiseTrend | None:
    scales = choose_metric(points, adapted=adapted)
    return fit_trend([step for step, _ in scales], [scale for _, scale in scales])


def _conclude_absence(reason: str) -> NoiseConclusion:
    return NoiseConclusion(status="not_estimated", reason=reason)


def _average_preconditioned(points: Sequence[NoisePoint], batch_size: int) -> Estimate | None:
    known = choose_metric(points, adapted=True)
    if not known:
        return None
    steps, estimates = [step for step, _ in known], [item for _, item in known]
    return average_over_progress(steps, estimates, batch_size=batch_size)


def _is_usable(batches: NoiseBatches) -> bool:
    metrics = [batches.plain, *([batches.preconditioned] if batches.preconditioned else [])]
    sums = [
        value
        for moments in metrics
        for value in (*moments.sqnorms, *moments.group_dots, moments.total_sqnorm)
    ]
    return len(batches.micro_batch_sizes) >= 2 and all(map(math.isfinite, sums))


def explain_absence(facts: WorkloadFacts, *, has_log: bool = False) -> str | None:
    """Return why no noise scale can be estimated for this workload, or None where one can.

    Args:
        facts: What is known of the model file.
        has_log: Whether a real run measured it, which needs no data here.
    """
    if facts.is_step_only and not has_log:
        return "make_step keeps the gradients to itself: only memory and throughput are measured"
    if not facts.has_dataset and not has_log:
        return "make_batch gives synthetic data, which says nothing of the noise: add make_dataset"
    if facts.loss_reduction == "coupled":
        return "the loss couples the samples of a batch, so no sample has a gradient of its own"
    if facts.has_synchronised_statistics:
        return "synchronised batch statistics couple the samples of all ranks"
    return None


def _name_status(decisive: Estimate | None) -> NoiseStatus:
    if decisive is None:
        return "not_estimated"
    return "lower_bound" if decisive.high is None else "estimated"


def _conclude(conclusions: Conclusions) -> NoiseConclusion | None:
    record = conclusions.record
    if record.workload is None:
        return None
    return conclude_noise(
        record.workload,
        record.all(NOISE_BATCHES),
        record.all(NOISE_LOG),
        sample_unit=record.command.limits.sample_unit,
    )


NOISE = Topic("noise", NoiseConclusion, _conclude)
