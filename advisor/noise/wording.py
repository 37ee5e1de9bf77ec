"""Where and how the noise scale was measured, in one sentence."""

from collections.abc import Sequence

from advisor.noise.data import NoiseBatches, NoiseLogEntry, NoisePoint, NoiseTrend
from advisor.statistics import Estimate
from advisor.training.data import WorkloadFacts

#: Optimizers whose metric is their running second moment (worker/group_sums.py), from the first
#: step on.
_WITH_METRIC = frozenset({"Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad", "SparseAdam"})
#: Optimizers whose own metric is the plain one.
_PLAIN = frozenset({"SGD"})


def describe_points(
    facts: WorkloadFacts,
    points: Sequence[NoisePoint],
    decisive: Estimate | None,
    trend: NoiseTrend | None,
    *,
    adapted: bool,
    batches: Sequence[NoiseBatches] = (),
    log: Sequence[NoiseLogEntry] = (),
) -> str:
    """Return where the noise scale was measured, how it went, and what it holds for.

    Args:
        facts: What is known of the model file.
        points: At least one, by step.
        decisive: The run's average that the advice follows.
        trend: In the same metric.
        adapted: Whether that metric is the optimizer's.
        batches: What the points rest on where the tool measured them.
        log: What they rest on where a real run did.
    """
    place = _describe_place(points, batches, log)
    if decisive is None:
        return f"{place}, but with too few samples to bound it from below"
    scales = [
        point.preconditioned_noise_scale if adapted else point.noise_scale for point in points
    ]
    bounded = [scale for scale in scales if scale is not None and scale.low is not None]
    course = _describe_course(bounded[0], bounded[-1], f"{facts.sample_unit}s", trend)
    remarks = [
        _describe_metric(facts, batches, log, adapted=adapted),
        _describe_weights(facts, batches),
        _describe_training(facts, batches),
        next((b.ended_because for b in reversed(batches) if b.ended_because), None),
    ]
    parts = [place, course, *(remark for remark in remarks if remark is not None)]
    if decisive.high is None:
        parts.append("the gradient is too small against its noise for an upper end")
    if facts.has_batch_statistics and not log:
        parts.append("batch statistics tie it to this micro-batch size")
    return "; ".join(parts)


def _describe_place(
    points: Sequence[NoisePoint], batches: Sequence[NoiseBatches], log: Sequence[NoiseLogEntry]
) -> str:
    if log:
        steps = [entry.at_step for entry in log]
        return f"from the log of {len(log)} steps between step {min(steps)} and {max(steps)}"
    if any(each.from_checkpoint is not None for each in batches):
        count = "the checkpoint" if len(points) == 1 else f"{len(points)} checkpoints"
        sources = {each.step_source for each in batches}
        if "order" in sources or len(sources) > 1:
            return f"measured at {count}, equally spaced since not all name their step"
        unit = "epoch" if sources == {"epochs"} else "step"
        return f"measured at {count}, up to {unit} {points[-1].at_step}"
    if len(points) == 1:
        return f"measured at step {points[0].at_step}"
    return f"measured at {len(points)} points along {points[-1].at_step} steps"


def _describe_metric(
    facts: WorkloadFacts,
    batches: Sequence[NoiseBatches],
    log: Sequence[NoiseLogEntry],
    *,
    adapted: bool,
) -> str | None:
    """Return why the optimizer's own metric is missing; None where it is not."""
    name = None if facts.optimizer is None else facts.optimizer.name
    if adapted or name is None or name in _PLAIN:
        return None
    if log:
        return f"of plain gradients, which is all that a log holds, not in the metric of {name}"
    if name not in _WITH_METRIC:
        return f"of plain gradients only, since the metric of {name} is not known"
    if any(each.from_checkpoint is not None for each in batches):
        return f"of plain gradients only, since the checkpoint holds no state of {name}"
    return f"of plain gradients only, since {name} has no metric before its first step"


def _describe_weights(facts: WorkloadFacts, batches: Sequence[NoiseBatches]) -> str | None:
    if any(each.weights for each in batches):
        return "each micro-batch weighs by the tokens that its loss counts"
    if facts.loss_reduction == "weighted" and batches:
        return "the loss weighs samples by no count of tokens that is known, so they count alike"
    return None


def _describe_training(facts: WorkloadFacts, batches: Sequence[NoiseBatches]) -> str | None:
    """Return at which batch training went where that is not the base batch; None where it is."""
    trained = next((each.training_batch_size for each in batches if each.at_step), None)
    if trained is None or facts.base_batch_size in {None, trained}:
        return None
    return (
        f"trained at batch {trained}, since the base batch {facts.base_batch_size} neither fits "
        "nor splits into equal parts that do"
    )


def _describe_course(first: Estimate, last: Estimate, unit: str, trend: NoiseTrend | None) -> str:
    """Return how the noise scale went; rose and fell only where the trend is clear."""
    if first is last:
        return f"it is {_render(first)} {unit}"
    span = f"from {_render(first)} to {_render(last)} {unit}"
    if trend is not None and trend.direction in {"rose", "fell"}:
        factor = trend.factor
        ends = f"{_figure(factor.low)} to {_figure(factor.high)}"
        return f"it {trend.direction} {span}, by its trend {_figure(factor.point)}-fold ({ends})"
    return f"it went {span}, a change within its intervals"


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2g}"


def _render(estimate: Estimate) -> str:
    if estimate.point is not None and estimate.high is not None:
        return f"{estimate.point:.3g}"
    return f"at least {estimate.low:.3g}"
