"""Why this pair, in plain sentences with figures, the binding reason first."""

from collections.abc import Iterator

from advisor.advice.decide import Decision
from advisor.noise.course import predict_noise_scale
from advisor.noise.data import NoiseConclusion, predict_relative_samples
from advisor.race.data import BasePair, Race
from advisor.race.law import Law
from advisor.race.plan import LEAST_FRESH, choose_best
from advisor.race.tell import describe_gain, name_pair
from advisor.rate.data import Candidate
from advisor.units import begin_sentence, count_of, format_count, format_number, format_percent

#: Lengths of training, over that of the run, for which the law is asked again.
_LENGTHS = (10, 100)
_GENERALISATION = (
    "All of this is about training loss, not about how the model generalises: at equal training "
    "loss small batches often do better (Keskar et al. 2016), while short 1-cycle schedules at "
    "high rates may favour large ones (Smith 2018)."
)


def write_reasons(decision: Decision, noise: NoiseConclusion | None) -> Iterator[str]:
    """Yield the sentences, the one on what training showed first, the caution last."""
    way = decision.way
    yield _explain_choice(decision)
    if decision.basis != "given":
        yield _explain_limit(decision)
    yield _explain_law(decision, noise)
    if way.gradient_accumulation_steps > 1:
        yield (
            f"Batch {format_count(way.global_batch_size)} is made of "
            f"{way.gradient_accumulation_steps} micro-batches of "
            f"{format_count(way.micro_batch_size)}, which fit."
        )
    race = decision.race
    if race.base is not None and race.base_steps and race.does_base_train:
        yield _explain_length(decision, race.base, noise)
    yield _GENERALISATION


def _explain_choice(decision: Decision) -> str:
    race, result = decision.race, decision.result
    size = decision.way.global_batch_size
    own = format_count(size)
    given = f"Batch {own} was given. " if decision.basis == "given" else ""
    if race.base is None or race.does_base_train is None:
        return (
            f"{given}No pair of batch and rate was trained, so nothing else than batch {own} can "
            f"be advised: {race.reason}."
        )
    base = name_pair(race.base.key)
    if not race.does_base_train:
        return f"{given}Your own pair, {base}, does not train: {race.reason}."
    if result is not None:
        starts = result.fresh_starts or result.starts
        origin = "that had no part in picking it" if result.fresh_starts else "that picked it"
        return (
            f"{given}{name_pair(result.key).capitalize()} {describe_gain(result)} "
            f"of {'your own pair' if race.base.is_own else 'the pair it started from'}, "
            f"{base}, to the same loss, from {count_of(starts, 'start')} {origin}."
        )
    if decision.basis == "ranged":
        return f"No base pair is known, so a range test found {base}; {_describe_others(race)}."
    if not given:
        return f"Stay with your own pair, {base}: {_describe_others(race)}."
    if size == race.base.global_batch_size:
        return f"{given}It is your own, {base}: {_describe_others(race)}."
    return f"{given}No rate was tried at it."


def _describe_others(race: Race) -> str:
    """Return how near the best of the others came."""
    if not race.pairs:
        return "the time did not suffice to train another"
    best = choose_best(race.pairs)
    tried = count_of(len(race.pairs), "other pair")
    if best is None:
        return f"of {tried} tried none trained"
    what = f"{name_pair(best.key)}, {describe_gain(best)}"
    if best.standing == "ahead" and best.fresh_starts < LEAST_FRESH:
        what += ", in the starts that it was picked by: those that count were not run"
    return f"of {tried} trained none was surely faster; the best, {what}"


def _explain_limit(decision: Decision) -> str:
    """Return what keeps the batch from being larger, and by how much."""
    facts, way, larger = decision.facts, decision.way, decision.next_larger
    limit, size = decision.limiting_factor, format_count(way.global_batch_size)
    if larger is not None:
        gain, unit = way.sample_s / larger.sample_s - 1.0, facts.sample_unit
        what = f"{format_percent(abs(gain))} {'faster' if gain >= 0.0 else 'slower'}"
        speed = f"batch {format_count(larger.global_batch_size)} is {what} per {unit} in your loop"
        if limit == "throughput":
            return f"Beyond {size} {unit}s a step speed no longer pays: {speed}."
        return begin_sentence(speed) + _weigh_samples(way, larger, decision.law.noise_scale)
    if limit == "throughput":
        return f"Up to {size}, the largest, speed hardly rises any more: smaller ones are as fast."
    if limit == "memory":
        needed = decision.throughput.saturation.needed_batch_size
        beyond = ", where larger ones would still be faster"
        if needed is not None:
            beyond = "; by the fitted law larger ones would be faster up to about "
            beyond += format_number(needed)
        return f"Memory ends the batch at {size}{beyond}."
    if limit == "kernel":
        return f"A kernel of the model takes no batch much larger than {size}."
    if limit == "dataset":
        samples = count_of(facts.dataset_size or 0, "sample")
        return f"The dataset ends the batch at {size}: it has {samples}."
    ends = {
        "model": "What the model runs",
        "script": "The script's own end",
        "user": "The largest batch allowed",
    }
    return f"{ends.get(limit, 'The time')} ends the search at {size}; larger batches may be faster."


def _weigh_samples(way: Candidate, larger: Candidate, noise_scale: float | None) -> str:
    """Return how many more samples the next larger batch costs, after what it gains in speed."""
    if noise_scale is None:
        return "; how many more samples it needs is not known."
    needed, own = (
        predict_relative_samples(each.global_batch_size, noise_scale) for each in (larger, way)
    )
    more = format_percent(needed / own - 1.0)
    if needed * larger.sample_s > own * way.sample_s:
        return f", but by the noise needs {more} more of them."
    return (
        f" and by the noise needs only {more} more of them, but this run did not show that it "
        "trains faster."
    )


def _explain_law(decision: Decision, noise: NoiseConclusion | None) -> str:
    """Return where noise and speed alone put the least time."""
    law = decision.law
    near, scale, working = law.choose(decision.ways), law.noise, law.noise_scale
    if scale is None or working is None or not near:
        return f"The noise scale is not known{'' if noise is None else f': {noise.reason}'}."
    if scale.high is None:
        figures = f"at least {format_number(scale.low or 0.0)} samples"
        figures += "" if scale.low == working else f", and taken for {format_number(working)}"
    else:
        low, high = format_number(max(scale.low or 0.0, 0.0)), format_number(scale.high)
        figures = f"{format_number(working)} samples ({low} to {high})"
    sizes = dict.fromkeys(format_count(each.global_batch_size) for each in (near[0], near[-1]))
    return (
        f"The noise scale is {figures}: by it and the speed of steps in your loop alone, which is "
        f"right within a factor of 2, batch {' to '.join(sizes)} would train fastest."
    )


def _explain_length(decision: Decision, base: BasePair, noise: NoiseConclusion | None) -> str:
    """Return the length of training that the figures hold for, and how the law moves beyond it."""
    steps = decision.race.base_steps
    text = (
        "The times hold for trainings as long as those of the run, "
        f"{count_of(steps, 'step')} of batch {format_count(base.global_batch_size)}"
    )
    moves: dict[int, list[str]] = {}
    for factor in _LENGTHS:
        scale = None if noise is None else predict_noise_scale(noise, factor * steps)
        near = Law(scale, decision.facts.dataset_size).choose(decision.ways)
        if near:
            moves.setdefault(near[0].global_batch_size, []).append(f"{factor} times")
    if moves:
        named = [
            f"{format_count(size)} for {' and '.join(each)} as long" for size, each in moves.items()
        ]
        text += f"; by the trend of the noise the law would name batch {' and '.join(named)}"
    return f"{text}. --train-steps says how long you train."
