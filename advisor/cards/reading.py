"""A run -> what of it holds on any card, and whether it is one of the same training."""

from advisor.advice.data import Recommendation, Scenario
from advisor.advice.frontier import count_samples, estimate_gradient_bytes
from advisor.advice.plan import ADVICE
from advisor.advice.tell import head_run
from advisor.cards.data import Ratio, TrainedPair, Training
from advisor.engine.record import Conclusions
from advisor.engine.spec import Limits, Spec
from advisor.errors import UsageError
from advisor.memory.plan import MEMORY
from advisor.memory.split import can_split
from advisor.race.data import Race
from advisor.race.plan import RACE, rank_by_regret
from advisor.race.ways import WAYS, find_way
from advisor.rate.data import Candidate
from advisor.training.data import WorkloadFacts


def read_training(conclusions: Conclusions, scenario: Scenario, name: str) -> Training:
    """Return what a run trained, the advised pair first; UsageError where nothing carries over."""
    record, facts = conclusions.record, conclusions.record.workload
    memory, race, advice = conclusions.of(MEMORY), conclusions.of(RACE), conclusions.of(ADVICE)
    if facts is not None and facts.script is not None:
        raise UsageError(
            f"{name} is the run of a training script; predict takes one of a model file",
            next_step="Probe the model file that you predict for: bsadvisor probe MODEL.",
        )
    pairs: tuple[TrainedPair, ...] = ()
    if race is not None and race.does_base_train and advice is not None:
        pairs = _list_pairs(conclusions.of(WAYS) or (), race, advice, record.command.limits)
    largest = None if memory is None else memory.max_micro_batch_size
    if facts is None or record.environment is None or largest is None or not pairs:
        raise UsageError(
            f"{name} has no answer that other cards could take over: "
            f"{head_run(conclusions).answer}",
            next_step="Give a run whose own pair was trained: bsadvisor probe MODEL --json FILE.",
        )
    samples, limits = count_samples(scenario, facts), record.command.limits
    if samples is None and limits.train_steps and facts.base_batch_size:
        samples = float(limits.train_steps * facts.base_batch_size)
    return Training(
        run=name,
        precision=record.command.precision,
        settings=_list_settings(record.command.settings),
        file_sha256=facts.file_sha256,
        parameter_count=facts.parameter_count,
        device=record.environment.device.name,
        pairs=pairs,
        largest_micro_batch_size=largest,
        may_split=can_split(facts),
        gradient_bytes=estimate_gradient_bytes(facts),
        samples=samples,
    )


def _list_pairs(
    ways: tuple[Candidate, ...], race: Race, advice: Recommendation, limits: Limits
) -> tuple[TrainedPair, ...]:
    """Return the advised pair, then the best of each other batch; none where it was not trained.

    A pair that failed, or was trained for too short to be compared, is left out; so are others than
    a batch that the user keeps to.
    """
    assert race.base is not None
    base, winner, advised = race.base, race.winner, advice.global_batch_size
    best: dict[int, tuple[float, Ratio]] = {}
    for pair in (*reversed(rank_by_regret(race.pairs)), *([winner] if winner else [])):
        ratio = pair.sample_ratio
        if ratio is not None and ratio.point and ratio.low and ratio.high:
            trained = Ratio(point=ratio.point, low=ratio.low, high=ratio.high)
            best[pair.global_batch_size] = pair.learning_rate, trained
    if winner is None or winner.global_batch_size != base.global_batch_size:
        best[base.global_batch_size] = base.learning_rate, Ratio(point=1.0, low=1.0, high=1.0)
    sizes = sorted(best, key=lambda size: (size != advised, size)) if advised in best else []
    return tuple(
        TrainedPair(
            global_batch_size=size,
            learning_rate=best[size][0],
            micro_batch_size=way.micro_batch_size,
            gradient_accumulation_steps=way.gradient_accumulation_steps,
            step_s=way.step_s,
            sample_ratio=best[size][1],
        )
        for size in sizes[: 1 if limits.global_batch_size is not None else None]
        if (way := find_way(ways, size)) is not None
    )


def refuse_other_setting(training: Training | None, spec: Spec) -> None:
    """Raise UsageError where a run trained with other arithmetic or other settings."""
    if training is None:
        return
    workload = spec.workload
    asked = {
        "--precision": (training.precision, workload.precision),
        "--set": (" ".join(training.settings), " ".join(_list_settings(workload.settings))),
    }
    for option, (before, now) in asked.items():
        if before != now:
            raise UsageError(
                f"{training.run} was measured with {option} {before or 'none'}, "
                f"not {now or 'none'}",
                next_step=f"Give {option} as it was, or probe again.",
            )


def _list_settings(settings: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in sorted(settings.items()))


def refuse_other_model(training: Training | None, facts: WorkloadFacts) -> None:
    """Raise UsageError where the model file is not the one that a run trained."""
    if training is None:
        return
    compared = {
        "its text": (training.file_sha256, facts.file_sha256),
        "its number of parameters": (training.parameter_count, facts.parameter_count),
    }
    for what, (before, now) in compared.items():
        if before is not None and now is not None and before != now:
            raise UsageError(
                f"{training.run} is a run of another model file than {facts.file}: {what} differs",
                next_step="Give the model file of that run as it was, or probe this one.",
            )
