"""Why this batch, in plain sentences with figures, the binding reason first."""

from collections.abc import Iterator

from advisor.advice.data import Expected
from advisor.advice.decide import Decision
from advisor.advice.tradeoff import predict_relative_time
from advisor.memory.data import MemoryConclusion
from advisor.noise.data import NoiseConclusion, predict_relative_samples
from advisor.rate.data import Candidate
from advisor.rate.trial import Tried
from advisor.statistics import Estimate
from advisor.throughput.data import ThroughputConclusion
from advisor.training.data import WorkloadFacts
from advisor.units import format_figure, format_percent

_GENERALISATION = (
    "All of this is about training loss, not about how the model generalises: at equal training "
    "loss small batches often do better (Keskar et al. 2016), while short 1-cycle schedules at "
    "high rates may favour large ones (Smith 2018)."
)


def write_reasons(
    facts: WorkloadFacts,
    decision: Decision,
    memory: MemoryConclusion,
    throughput: ThroughputConclusion,
    noise: NoiseConclusion | None,
    expected: Expected,
    tried: Tried,
) -> Iterator[str]:
    """Yield the sentences, the one on what limits the batch first, the caution last."""
    chosen, scale = decision.chosen, None if noise is None else noise.decisive
    size, base = chosen.global_batch_size, facts.base_batch_size
    working = None if noise is None else noise.working
    is_moved = size != decision.planned.global_batch_size
    if is_moved:
        yield _explain_move(decision, tried)
    elif decision.unrestricted is not None:
        yield _explain_given(chosen, decision.unrestricted, working)
    else:
        yield _explain_limit(facts, decision, memory, throughput, working)
    if scale is None or working is None or decision.optimum is None:
        why = "" if noise is None else f" ({noise.reason})"
        yield f"The noise scale is not known{why}, so speed alone decides."
    else:
        best = decision.optimum.global_batch_size
        yield (
            f"The noise scale is {_describe_noise(scale, working)}, which puts the least time to "
            f"train at batch {best}."
        )
        yield _explain_interval(decision, base)
    if chosen.gradient_accumulation_steps > 1 or decision.is_split:
        yield _explain_accumulation(decision)
    if expected.time_ratio is not None and size != base:
        yield (
            f"Training is predicted to take {format_figure(expected.time_ratio)} times as long as "
            f"with the base batch of {base}."
        )
    if expected.trial_time_ratio is not None and not is_moved and size != tried.base_batch_size:
        others = sorted({*tried.batches} - {size, tried.base_batch_size})
        slower = f"; batches {', '.join(map(str, others))} were no faster" if others else ""
        yield (
            f"In the trial batch {size} got to the loss that your own pair ends on in "
            f"{format_figure(expected.trial_time_ratio)} of its time{slower}."
        )
    yield _GENERALISATION


def _explain_limit(
    facts: WorkloadFacts,
    decision: Decision,
    memory: MemoryConclusion,
    throughput: ThroughputConclusion,
    noise_scale: float | None,
) -> str:
    """Return what keeps the batch from being larger, and by how much."""
    size, unit = decision.chosen.global_batch_size, facts.sample_unit
    match decision.limiting_factor:
        case "noise":
            assert noise_scale is not None
            return _explain_noise_limit(decision, noise_scale)
        case "throughput":
            return (
                f"Beyond {size} {unit}s a step speed no longer pays: larger batches are at most "
                f"5 % faster per {unit}."
            )
        case "memory":
            needed = throughput.saturation.needed_batch_size
            if needed is None:
                return f"Memory ends the batch at {size}, where larger ones would still be faster."
            return (
                f"Memory ends the batch at {size}; by the fitted law larger ones would be faster "
                f"up to about {format_figure(needed)}."
            )
        case "dataset":
            return f"The dataset ends the batch at {size}: it has {facts.dataset_size} samples."
        case "user":
            if decision.is_timed_to_the_end and memory.limited_by == "cap":
                return (
                    f"The largest batch allowed, {size}, ends the search; larger ones may be "
                    "faster."
                )
            return f"The time budget ends the search at {size}; larger batches may be faster."


def _explain_noise_limit(decision: Decision, noise_scale: float) -> str:
    """Return what the fastest batch would gain in speed and lose in samples."""
    chosen, fastest = decision.chosen, decision.fastest
    needed, own = (
        predict_relative_samples(each.global_batch_size, noise_scale) for each in (fastest, chosen)
    )
    return (
        f"Beyond {chosen.global_batch_size} samples a step the noise no longer pays: batch "
        f"{fastest.global_batch_size} is {format_percent(chosen.sample_s / fastest.sample_s - 1.0)}"
        f" faster per sample, but needs {format_percent(needed / own - 1.0)} more samples."
    )


def _explain_move(decision: Decision, tried: Tried) -> str:
    """Return why the trial's batch stands in place of the one that noise and speed lead to."""
    chosen, planned = decision.chosen.global_batch_size, decision.planned.global_batch_size
    ratio = tried.compare_time(chosen)
    if chosen == tried.base_batch_size:
        outcome = "no other pair that was tried got to the loss of your own pair as fast"
    else:
        share = "" if ratio is None else f" in {format_figure(ratio)} of its time"
        outcome = f"it got to the loss that your own pair ends on{share}"
    ratio = tried.compare_time(planned)
    other = "did not get there" if ratio is None else f"took {format_figure(ratio)} of it"
    if tried.times_s.get(planned) is None:
        other = "failed at every rate tried"
    return (
        f"In the trial batch {chosen} trained fastest: {outcome}; batch {planned}, to which noise "
        f"and speed lead, {other}."
    )


def _explain_given(chosen: Candidate, other: Candidate, noise_scale: float | None) -> str:
    """Return that the batch was given, and what it costs over the one that would be chosen."""
    size, better = chosen.global_batch_size, other.global_batch_size
    who = "speed alone would choose" if noise_scale is None else "noise and speed would choose"
    if size == better:
        return f"Batch {size} was given; {who} it as well."
    sentence = f"Batch {size} was given; {who} {better}."
    if noise_scale is None:
        return sentence
    ratio = predict_relative_time(chosen, noise_scale) / predict_relative_time(other, noise_scale)
    return (
        f"{sentence} Training is predicted to take {format_figure(ratio)} times as long as there."
    )


def _describe_noise(scale: Estimate, working: float) -> str:
    if scale.high is None:
        return f"at least {format_figure(working)} samples, its upper end unknown"
    low, high = format_figure(max(scale.low or 0.0, 0.0)), format_figure(scale.high)
    return f"{format_figure(working)} samples ({low} to {high})"


def _explain_interval(decision: Decision, base: int | None) -> str:
    """Return why the small end is advised, and whether the base batch is as good."""
    chosen = (decision.unrestricted or decision.chosen).global_batch_size
    low, high = decision.interval.low, decision.interval.high
    if low == high == chosen:
        return f"No other batch that was timed comes within 5 % of the time of batch {chosen}."
    span = f"from {low} up" if high is None else f"from {low} to {high}"
    sentence = (
        f"Batches {span} come within 5 % of the least time somewhere in the noise interval; "
        f"{chosen} is the smallest that does so at the noise scale, which needs the least memory."
    )
    is_near = base is not None and (low or 0) <= base and (high is None or base <= high)
    if is_near and base != chosen:
        return f"{sentence} Your base batch of {base} may well be as good."
    return sentence


def _explain_accumulation(decision: Decision) -> str:
    """Return why the batch is made of several micro-batches."""
    chosen = decision.chosen
    parts = f"{chosen.gradient_accumulation_steps} micro-batches of {chosen.micro_batch_size}"
    if decision.is_split:
        return (
            f"Batch {chosen.global_batch_size} is made of {parts}, since larger ones ran out of "
            "memory when they were trained for longer."
        )
    if decision.unrestricted is not None:
        return f"It is made of {parts}, the largest size timed that divides it."
    single = [each for each in decision.candidates if each.gradient_accumulation_steps == 1]
    saved = 1.0 - chosen.sample_s / min(each.sample_s for each in single)
    return (
        f"Accumulating {parts} shares one optimizer step among them, which saves "
        f"{format_percent(saved)} of the time of a sample."
    )
