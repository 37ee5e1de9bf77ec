"""Where and how the noise scale was measured, in one sentence."""

from collections.abc import Sequence

from advisor.noise.data import NoiseBatches, NoiseConclusion, NoiseLogEntry
from advisor.statistics import Estimate
from advisor.training.data import WorkloadFacts
from advisor.units import format_figure, format_number

#: Optimizers whose metric is their running second moment, from the first step on.
_WITH_METRIC = frozenset({"Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad", "SparseAdam"})


def describe_points(
    facts: WorkloadFacts,
    noise: NoiseConclusion,
    batches: Sequence[NoiseBatches],
    log: Sequence[NoiseLogEntry],
) -> str:
    """Return where the noise scale was measured, how it went, and what it holds for."""
    place, decisive = _describe_place(batches, log), noise.decisive
    if decisive is None:
        return f"{place}, but with too few samples to bound it from below"
    is_weighted, base = any(each.weights for each in batches), facts.base_batch_size
    trained = next((each.training_batch_size for each in batches if each.at_step), None)
    told = {
        place: True,
        _describe_course(noise, f"{facts.sample_unit}s"): True,
        _describe_metric(facts, batches, log): noise.preconditioned_noise_scale is None,
        "each micro-batch weighs by the tokens that its loss counts": is_weighted,
        "the loss weighs samples by no count of tokens that is known, so they count alike": (
            facts.loss_reduction == "weighted" and batches and not is_weighted
        ),
        f"trained at batch {trained}, since the base batch {base} neither fits nor splits into "
        "equal parts that do": trained is not None and base not in {None, trained},
        "the sums of gradients were kept as sketches, exact to 0.1 %": (
            any(each.is_sketched for each in batches)
        ),
        "the gradient is too small against its noise for an upper end": decisive.high is None,
        "batch statistics tie it to this micro-batch size": facts.has_batch_statistics and not log,
    }
    return "; ".join(text for text, is_so in told.items() if text and is_so)


def _describe_place(batches: Sequence[NoiseBatches], log: Sequence[NoiseLogEntry]) -> str:
    if log:
        steps = [entry.at_step for entry in log]
        return f"from the log of {len(log)} steps between step {min(steps)} and {max(steps)}"
    last = batches[-1].at_step
    if any(each.from_checkpoint is not None for each in batches):
        count = "the checkpoint" if len(batches) == 1 else f"{len(batches)} checkpoints"
        sources = {each.step_source for each in batches}
        if "order" in sources:
            return f"measured at {count}, equally spaced since not all name their step"
        unit = "epoch" if sources == {"epochs"} else "step"
        return f"measured at {count}, up to {unit} {last}"
    if len(batches) == 1:
        return f"measured at step {last}"
    spans = {each.stands_for for each in batches if each.stands_for is not None}
    if spans:
        end = max(end for _, end in spans)
        parts = f" in {len(spans)} spans" if len(spans) > 1 else ""
        return f"measured at {len(batches)} iterates{parts} of {end} steps"
    return f"measured at {len(batches)} points along {last} steps"


def _describe_course(noise: NoiseConclusion, unit: str) -> str | None:
    """Return how the noise scale went; rose and fell only where the trend is clear.

    Single iterates scatter by more than a trend: where the first and the last contradict it, or
    have no more than a lower end, they are not told.
    """
    trend, course = noise.trend, [_read_figure(scale) for _, scale in noise.course]
    known = [(figure, lead) for figure, lead in course if figure > 0.0]
    if not known:
        return None
    (first, lead), (last, last_lead) = known[0], known[-1]
    if len(known) == 1:
        return f"it is {lead}{format_number(first)} {unit}"
    span = f"from {lead}{format_number(first)} to {last_lead}{format_number(last)} {unit}"
    if trend is None or trend.direction not in {"rose", "fell"}:
        return f"it went {span}, a change within its intervals"
    ends = (trend.factor.point, trend.factor.low, trend.factor.high)
    point, low, high = ("unknown" if end is None else format_figure(end, 2) for end in ends)
    is_told = not (lead or last_lead) and (last > first) == (trend.direction == "rose")
    way = f" {span}," if is_told else ""
    return f"it {trend.direction}{way} by its trend {point}-fold ({low} to {high})"


def _read_figure(scale: Estimate) -> tuple[float, str]:
    has_point = scale.point is not None and scale.high is not None
    return (scale.point or 0.0, "") if has_point else (scale.low or 0.0, "at least ")


def _describe_metric(
    facts: WorkloadFacts, batches: Sequence[NoiseBatches], log: Sequence[NoiseLogEntry]
) -> str | None:
    """Return why the optimizer's own metric is missing; None where that is the plain one."""
    name = None if facts.optimizer is None else facts.optimizer.name
    if name is None or name == "SGD":
        return None
    if log:
        return f"of plain gradients, which is all that a log holds, not in the metric of {name}"
    if name not in _WITH_METRIC:
        why = f"the metric of {name} is not known"
    elif any(each.from_checkpoint is not None for each in batches):
        why = f"the checkpoint holds no state of {name}"
    else:
        why = f"{name} has no metric before its first step"
    return f"of plain gradients only, since {why}"
