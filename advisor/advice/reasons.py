"""Why this batch, in plain sentences with figures, the binding reason first."""

from advisor.advice.candidates import Candidate
from advisor.advice.data import Expected
from advisor.advice.decide import Decision
from advisor.advice.tradeoff import predict_relative_time
from advisor.memory.data import MemoryConclusion
from advisor.noise.data import NoiseConclusion, predict_relative_samples
from advisor.rate.tried import Tried
from advisor.soak.advice import explain_split
from advisor.statistics import Estimate
from advisor.throughput.data import ThroughputConclusion
from advisor.training.data import WorkloadFacts
from advisor.units import render_figure, render_percent

_CAUTION = (
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
) -> tuple[str, ...]:
    """Return the sentences, the one on what limits the batch first, the caution last."""
    scale = None if noise is None else noise.decisive
    working = None if noise is None else noise.working
    is_moved = decision.chosen.global_batch_size != decision.planned.global_batch_size
    sentences = [
        _explain_move(decision, tried)
        if is_moved
        else _explain_limit(facts, decision, memory, throughput, working)
    ]
    if working is None or decision.optimum is None:
        why = "" if noise is None else f" ({noise.reason})"
        sentences.append(f"The noise scale is not known{why}, so speed alone decides.")
    else:
        sentences.append(_explain_noise(decision, scale, working))
        sentences.append(_explain_interval(facts, decision))
    if decision.is_split:
        sentences.append(explain_split(decision))
    elif decision.chosen.gradient_accumulation_steps > 1:
        explain = _explain_accumulation if decision.unrestricted is None else _explain_parts
        sentences.append(explain(decision))
    if expected.time_ratio is not None and decision.chosen.global_batch_size != (
        facts.base_batch_size
    ):
        sentences.append(
            f"Training is predicted to take {render_figure(expected.time_ratio)} times as long as "
            f"with the base batch of {facts.base_batch_size}."
        )
    if expected.trial_time_ratio is not None and not is_moved:
        sentences += _describe_trial(decision, expected.trial_time_ratio, tried)
    return (*sentences, _CAUTION)


def _explain_limit(
    facts: WorkloadFacts,
    decision: Decision,
    memory: MemoryConclusion,
    throughput: ThroughputConclusion,
    noise_scale: float | None,
) -> str:
    """Return what keeps the batch from being larger, and by how much; or that it was given."""
    if decision.unrestricted is not None:
        return _explain_given(decision.chosen, decision.unrestricted, noise_scale)
    size = decision.chosen.global_batch_size
    match decision.limiting_factor:
        case "noise":
            return _explain_noise_limit(decision, noise_scale)
        case "throughput":
            return (
                f"Beyond {size} {facts.sample_unit}s a step speed no longer pays: larger batches "
                f"are at most 5 % faster per {facts.sample_unit}."
            )
        case "memory":
            return f"Memory ends the batch at {size}{_describe_need(throughput)}."
        case "dataset":
            return f"The dataset ends the batch at {size}: it has {facts.dataset_size} samples."
        case "user":
            return _explain_user_limit(decision, memory)


def _explain_move(decision: Decision, tried: Tried) -> str:
    """Return why the trial's batch stands in place of the one that noise and speed lead to."""
    chosen, planned = decision.chosen.global_batch_size, decision.planned.global_batch_size
    if chosen == tried.base_batch_size:
        outcome = "no other pair that was tried got to the loss of your own pair as fast"
    else:
        ratio = tried.compare_time(chosen)
        share = "" if ratio is None else f" in {render_figure(ratio)} of its time"
        outcome = f"it got to the loss that your own pair ends on{share}"
    ratio = tried.compare_time(planned)
    other = "did not get there" if ratio is None else f"took {render_figure(ratio)} of it"
    if tried.times_s.get(planned) is None:
        other = "failed at every rate tried"
    return (
        f"In the trial batch {chosen} trained fastest: {outcome}; batch {planned}, to which noise "
        f"and speed lead, {other}."
    )


def _describe_trial(decision: Decision, ratio: float, tried: Tried) -> list[str]:
    """Return how the planned batch did in the trial, and which others were slower."""
    size = decision.chosen.global_batch_size
    if size == tried.base_batch_size:
        return []
    others = sorted({*tried.batches} - {size, tried.base_batch_size})
    slower = f"; batches {', '.join(map(str, others))} were no faster" if others else ""
    start = f"In the trial batch {size} got to the loss that your own pair ends on in "
    return [f"{start}{render_figure(ratio)} of its time{slower}."]


def _explain_given(chosen: Candidate, other: Candidate, noise_scale: float | None) -> str:
    """Return that the batch was given, and what it costs over the one that would be chosen."""
    size, better = chosen.global_batch_size, other.global_batch_size
    who = "speed alone would choose" if noise_scale is None else "noise and speed would choose"
    if size == better:
        return f"Batch {size} was given; {who} it as well."
    sentence = f"Batch {size} was given; {who} {better}"
    if noise_scale is None:
        return f"{sentence}."
    ratio = predict_relative_time(chosen, noise_scale) / predict_relative_time(other, noise_scale)
    return (
        f"{sentence}. Training is predicted to take {render_figure(ratio)} times as long as there."
    )


def _explain_noise_limit(decision: Decision, noise_scale: float | None) -> str:
    """Return what the fastest batch would gain in speed and lose in samples."""
    assert noise_scale is not None
    chosen, fastest = decision.chosen, decision.fastest
    faster = chosen.sample_s / fastest.sample_s - 1.0
    more = _compare_samples(fastest, chosen, noise_scale) - 1.0
    return (
        f"Beyond {chosen.global_batch_size} samples a step the noise no longer pays: batch "
        f"{fastest.global_batch_size} is {render_percent(faster)} faster per sample, but needs "
        f"{render_percent(more)} more samples."
    )


def _describe_need(throughput: ThroughputConclusion) -> str:
    needed = throughput.saturation.needed_batch_size
    if needed is None:
        return ", where larger ones would still be faster"
    return f"; by the fitted law larger ones would be faster up to about {render_figure(needed)}"


def _explain_user_limit(decision: Decision, memory: MemoryConclusion) -> str:
    size = decision.chosen.global_batch_size
    if decision.is_timed_to_the_end and memory.limited_by == "cap":
        return f"The largest batch allowed, {size}, ends the search; larger ones may be faster."
    return f"The time budget ends the search at {size}; larger batches may be faster."


def _explain_noise(decision: Decision, scale: Estimate | None, working: float) -> str:
    """Return the noise scale and the batch that it alone would lead to the least time."""
    assert scale is not None
    assert decision.optimum is not None
    if scale.high is None:
        known = f"at least {render_figure(working)} samples, its upper end unknown"
    else:
        low = render_figure(max(scale.low or 0.0, 0.0))
        known = f"{render_figure(working)} samples ({low} to {render_figure(scale.high)})"
    best = decision.optimum.global_batch_size
    return f"The noise scale is {known}, which puts the least time to train at batch {best}."


def _explain_interval(facts: WorkloadFacts, decision: Decision) -> str:
    """Return why the small end is advised, and whether the base batch is as good."""
    free = decision.unrestricted or decision.chosen
    chosen, base = free.global_batch_size, facts.base_batch_size
    low, high = decision.interval.low, decision.interval.high
    if low == high == chosen:
        return f"No other batch that was timed comes within 5 % of the time of batch {chosen}."
    span = f"from {low} up" if high is None else f"from {low} to {high}"
    sentence = (
        f"Batches {span} come within 5 % of the least time somewhere in the noise interval; "
        f"{chosen} is the smallest that does so at the noise scale, which needs the least memory"
    )
    is_near = base is not None and (low or 0) <= base and (high is None or base <= high)
    if is_near and base != chosen:
        return f"{sentence}. Your base batch of {base} may well be as good."
    return f"{sentence}."


def _explain_accumulation(decision: Decision) -> str:
    chosen = decision.chosen
    single = [each for each in decision.candidates if each.gradient_accumulation_steps == 1]
    saved = 1.0 - chosen.sample_s / min(each.sample_s for each in single)
    return (
        f"Accumulating {chosen.gradient_accumulation_steps} micro-batches of "
        f"{chosen.micro_batch_size} shares one optimizer step among them, which saves "
        f"{render_percent(saved)} of the time of a sample."
    )


def _explain_parts(decision: Decision) -> str:
    """Return why a given batch is made of several micro-batches."""
    chosen = decision.chosen
    return (
        f"It is made of {chosen.gradient_accumulation_steps} micro-batches of "
        f"{chosen.micro_batch_size}, the largest size timed that divides it."
    )


def _compare_samples(one: Candidate, other: Candidate, noise_scale: float) -> float:
    return predict_relative_samples(one.global_batch_size, noise_scale) / (
        predict_relative_samples(other.global_batch_size, noise_scale)
    )
