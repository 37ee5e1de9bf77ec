"""The noise scale of a training run, or the reason why there is none."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from advisor.engine.conclusions import Conclusions, Topic
from advisor.noise.course import average_over_progress, fit_trend
from advisor.noise.data import (
    NOISE_BATCHES,
    NOISE_LOG,
    NoiseBatches,
    NoiseConclusion,
    NoiseLogEntry,
    NoisePoint,
    NoiseStatus,
    choose_metric,
)
from advisor.noise.point import (
    LEAST_STEPS,
    estimate_log_points,
    estimate_noise_point,
    get_batch_size,
)
from advisor.noise.reason import describe_points
from advisor.statistics import median
from advisor.training.data import WorkloadFacts


def conclude_noise(
    facts: WorkloadFacts,
    batches: Sequence[NoiseBatches],
    log: Sequence[NoiseLogEntry] = (),
    *,
    sample_unit: Literal["sample", "token"] = "sample",
) -> NoiseConclusion:
    """Return the noise scale of the run, or the reason why there is none.

    Iterates of one span are one point; points are averaged over the progress they stand for, in the
    Euclidean metric and, where they have it, in the optimizer's. A `log` stands alone.
    """
    usable = () if log else _order(batch for batch in batches if _is_usable(batch))
    points = _estimate_points(facts, usable, log)
    reason = explain_absence(facts, has_log=bool(log))
    if reason is None and not points:
        reason = "no gradient measurement was reached before the run ended"
        if log:
            reason = f"the log has {len(log)} steps, too few: {LEAST_STEPS} are needed"
    if reason is not None:
        return NoiseConclusion(status="not_estimated", reason=reason)
    micro_batch_size, batch_size = _get_sizes(usable, log)
    plain = average_over_progress(points, batch_size=batch_size, adapted=False)
    own = average_over_progress(points, batch_size=batch_size, adapted=True)
    decisive = own or plain
    status: NoiseStatus = "estimated"
    if decisive is None or decisive.high is None:
        status = "not_estimated" if decisive is None else "lower_bound"
    noise = NoiseConclusion(
        status=status,
        reason="",
        noise_scale=plain,
        preconditioned_noise_scale=own,
        gradient_sqnorm=points[-1].gradient_sqnorm,
        gradient_cov_trace=points[-1].gradient_cov_trace,
        at_step=points[-1].at_step,
        micro_batch_size=micro_batch_size,
        batch_size=batch_size,
        points=points,
        trend=fit_trend(choose_metric(points, adapted=own is not None)),
        sample_unit=sample_unit,
        tokens_per_sample=_count_tokens(usable) or facts.tokens_per_sample,
    )
    return msgspec.structs.replace(noise, reason=describe_points(facts, noise, usable, log))


def _is_usable(batches: NoiseBatches) -> bool:
    metrics = [each for each in (batches.plain, batches.preconditioned) if each is not None]
    return len(batches.micro_batch_sizes) >= 2 and all(
        math.isfinite(each.total_sqnorm + sum(each.group_sqnorms)) for each in metrics
    )


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


def _estimate_points(
    facts: WorkloadFacts, usable: Sequence[NoiseBatches], log: Sequence[NoiseLogEntry]
) -> tuple[NoisePoint, ...]:
    if log:
        return estimate_log_points(log, dataset_size=facts.dataset_size)
    keys = [each.stands_for or (place,) for place, each in enumerate(usable)]
    return tuple(
        estimate_noise_point(
            *(each for _, each in iterates),
            batch_size=get_batch_size(usable[-1]),
            dataset_size=facts.dataset_size,
        )
        for _, iterates in itertools.groupby(
            zip(keys, usable, strict=True), key=lambda pair: pair[0]
        )
    )


def _get_sizes(usable: Sequence[NoiseBatches], log: Sequence[NoiseLogEntry]) -> tuple[int, int]:
    """Return the samples of each gradient and of each step of training; of a log the latter."""
    if log:
        size = max(1, round(median([entry.samples for entry in log])))
        return size, size
    last = usable[-1]
    return last.micro_batch_size or max(last.micro_batch_sizes), get_batch_size(last)


def _count_tokens(usable: Sequence[NoiseBatches]) -> float | None:
    """Return the mean weight of a sample; None where samples count alike."""
    weighted = [batch for batch in usable if batch.weights]
    samples = sum(sum(batch.micro_batch_sizes) for batch in weighted)
    return math.fsum(w for batch in weighted for w in batch.weights) / samples if samples else None


def explain_absence(facts: WorkloadFacts, *, has_log: bool = False) -> str | None:
    """Return why no noise scale can be estimated for this workload, or None where one can.

    A log of a real run (`has_log`) needs no data here.
    """
    if facts.is_step_only and not has_log:
        return "make_step hides the gradients, so that only memory and speed are measured"
    if facts.script is not None and facts.script.why_untrained and not has_log:
        return facts.script.why_untrained
    if not facts.has_dataset and not has_log:
        return "make_batch gives synthetic data, which says nothing of the noise: add make_dataset"
    if facts.has_zero_gradient and not has_log:
        return "every gradient is exactly 0 at the start: there is nothing to measure or to learn"
    if facts.loss_reduction == "coupled":
        return "the loss couples the samples of a batch, so no sample has a gradient of its own"
    if facts.has_synchronised_statistics:
        return "synchronised batch statistics couple the samples of all ranks"
    return None


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
