"""The noise scale of a training run, or the reason why there is none."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec.structs import replace

from advisor.engine.record import Conclusions, Topic
from advisor.noise.course import average_over_progress, fit_trend
from advisor.noise.data import (
    NOISE_BATCHES,
    NOISE_LOG,
    GradientMoments,
    NoiseBatches,
    NoiseConclusion,
    NoiseLogEntry,
    NoisePoint,
    NoiseStatus,
    choose_metric,
)
from advisor.noise.iterates import LEAST_GROUPS
from advisor.noise.point import (
    LEAST_STEPS,
    estimate_log_points,
    estimate_noise_point,
    get_batch_size,
)
from advisor.noise.reason import describe_points
from advisor.statistics import median
from advisor.training.data import WorkloadFacts
from advisor.units import count_of


def conclude_noise(
    facts: WorkloadFacts,
    batches: Sequence[NoiseBatches],
    log: Sequence[NoiseLogEntry] = (),
    *,
    sample_unit: Literal["sample", "token"] = "sample",
) -> NoiseConclusion:
    """Return the noise scale of the run, or the reason why there is none. A `log` stands alone."""
    usable = () if log else _select(batches)
    points = _estimate_points(facts, usable, log)
    reason = explain_absence(facts, has_log=bool(log))
    if reason is None and log and not points:
        steps = count_of(len(log), "step")
        reason = f"the log has {steps}, too few: {LEAST_STEPS} are needed"
    elif reason is None and not log:
        reason = _explain_useless(facts, usable) if points else _explain_nothing(facts)
    if reason is not None:
        return NoiseConclusion(status="not_estimated", reason=reason)
    if log:  # whose steps alone are known
        micro_batch_size = batch_size = max(1, round(median([entry.samples for entry in log])))
    else:
        last = usable[-1]
        batch_size = get_batch_size(last)
        micro_batch_size = last.micro_batch_size or max(last.micro_batch_sizes)
    weighted = [batch for batch in usable if batch.weights]
    samples = sum(sum(batch.micro_batch_sizes) for batch in weighted)
    tokens = math.fsum(weight for batch in weighted for weight in batch.weights)
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
        tokens_per_sample=tokens / samples if samples else facts.tokens_per_sample,
    )
    return replace(noise, reason=describe_points(facts, noise, usable, log))


def _select(batches: Iterable[NoiseBatches]) -> tuple[NoiseBatches, ...]:
    """Return what can be used by step; by their order where their steps cannot be compared."""
    found = [
        each
        for each in batches
        if len(each.micro_batch_sizes) >= 2
        and all(
            math.isfinite(moments.total_sqnorm + sum(moments.group_sqnorms))
            for moments in filter(None, (each.plain, each.preconditioned))
        )
    ]
    sources = {batch.step_source for batch in found}
    if "order" in sources or len(sources) > 1:
        return tuple(
            replace(batch, at_step=place, step_source="order") for place, batch in enumerate(found)
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


def _explain_useless(facts: WorkloadFacts, usable: Sequence[NoiseBatches]) -> str | None:
    """Return why the gradients that were measured show no noise, or None where they do."""
    moments = [each.plain for each in usable]
    if not any(each.total_sqnorm or any(each.group_sqnorms) for each in moments):
        return "every gradient that was measured is exactly 0: there is nothing to learn"
    smallest = min(min(each.micro_batch_sizes) for each in usable)
    if facts.dataset_size is not None and smallest >= facts.dataset_size:
        # What differs between them is rounding.
        return "each gradient is that of the whole dataset: there is no noise in it"
    return None


def _explain_nothing(facts: WorkloadFacts) -> str:
    """Return why no gradient was measured: within one pass over the data none comes twice."""
    size = facts.min_micro_batch_size
    if facts.has_batch_statistics:  # which are those of the whole batch
        size = max(size, facts.base_batch_size or size)
    return _explain_few(facts, size) or "no gradient measurement was reached before the run ended"


def _explain_few(facts: WorkloadFacts, size: int) -> str | None:
    """Return that the dataset is too small for batches of this size, or None where it is not."""
    if facts.dataset_size is None or facts.dataset_size >= LEAST_GROUPS * size:
        return None
    samples = count_of(facts.dataset_size, "sample")
    return (
        f"the dataset has {samples}, too few: gradients of {LEAST_GROUPS} batches of {size} "
        "that share none are needed"
    )


def explain_absence(facts: WorkloadFacts, *, has_log: bool = False) -> str | None:
    """Return why no noise scale can be estimated here, or None where one can, if of a log alone."""
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
    return None if has_log else _explain_few(facts, facts.min_micro_batch_size)


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


def merge_shards(results: Mapping[int, Sequence[NoiseBatches]]) -> list[NoiseBatches]:
    """Return the first rank's; where ranks share the parameters, with the sums over their parts."""
    everything = [each for _, batches in sorted(results.items()) for each in batches]

    def add(own: NoiseBatches, name: str) -> GradientMoments | None:
        parts = [getattr(each, name) for each in everything if each.at_step == own.at_step]
        known = [part for part in parts if part is not None]
        if getattr(own, name) is None:
            return None
        return GradientMoments(
            group_sqnorms=tuple(map(sum, zip(*(m.group_sqnorms for m in known), strict=True))),
            group_dots=tuple(map(sum, zip(*(m.group_dots for m in known), strict=True))),
            total_sqnorm=sum(m.total_sqnorm for m in known),
        )

    return [
        replace(own, plain=add(own, "plain"), preconditioned=add(own, "preconditioned"))
        for own in results.get(0, ())
    ]
