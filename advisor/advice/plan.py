"""The conclusions of a run -> its one recommendation, and what follows beyond one batch."""

from collections.abc import Sequence

from advisor.advice.cautions import write_cautions
from advisor.advice.data import (
    SCENARIO,
    Expected,
    Frontier,
    Recommendation,
    Scenario,
    Schedule,
    ScheduleItem,
)
from advisor.advice.decay_swap import conclude_decay_swap
from advisor.advice.decide import Decision, decide
from advisor.advice.frontier import conclude_frontier
from advisor.advice.reasons import write_reasons
from advisor.advice.schedule import Pair, conclude_schedule
from advisor.advice.snippet import write_snippet
from advisor.advice.tradeoff import (
    predict_relative_time,
    tabulate_tradeoff,
)
from advisor.engine.conclusions import Conclusions, Topic
from advisor.engine.record import Record
from advisor.loader.data import LOADER_TIMINGS
from advisor.loader.plan import conclude_loader
from advisor.memory.data import MemoryConclusion
from advisor.memory.plan import MEMORY
from advisor.noise.data import NOISE_BATCHES, NoiseConclusion, get_working_noise_scale
from advisor.noise.plan import NOISE
from advisor.rate.conclude import needs_range, settle_ranged_rate, settle_rate
from advisor.rate.data import LR_RANGES, TRIALS, Advised, Way
from advisor.rate.trial import conclude_trials
from advisor.soak.data import SOAKS
from advisor.soak.plan import conclude_soak, find_failed_sizes
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import ThroughputConclusion


def propose(
    record: Record,
    memory: MemoryConclusion | None,
    throughput: ThroughputConclusion | None,
    noise: NoiseConclusion | None,
) -> Recommendation | None:
    """Return the recommendation, or None where no size was timed.

    Its learning rate has a value only once the record's trials hold that batch and rate, and they
    pass; until then it is a proposal for the trial to run.
    """
    facts = record.workload
    if facts is None or memory is None or throughput is None:
        return None
    scale = None if noise is None else noise.decisive
    tried = conclude_trials(facts, record.all(TRIALS), throughput, scale)
    decision = decide(
        facts,
        memory,
        throughput,
        scale,
        tried_s=tried.times_s,
        global_batch_size=record.command.limits.global_batch_size,
        failed_micro_batch_size=min(find_failed_sizes(record.all(SOAKS)), default=None),
        batch_multiple=record.command.limits.batch_multiple,
    )
    if decision is None:
        return None
    chosen, size = decision.chosen, decision.chosen.global_batch_size
    if needs_range(facts):
        rate = settle_ranged_rate(facts, record.all(LR_RANGES), record.all(TRIALS), size)
    else:
        rate = settle_rate(facts, size, scale, tried)
    working = None if noise is None else noise.working
    loader = conclude_loader(record.all(LOADER_TIMINGS))
    trial_ratio = None if rate.learning_rate.value is None else tried.compare_time(size)
    expected = _predict_gain(decision, facts.base_batch_size, working, trial_ratio)
    soak = conclude_soak(record.all(SOAKS))
    return Recommendation(
        micro_batch_size=chosen.micro_batch_size,
        gradient_accumulation_steps=chosen.gradient_accumulation_steps,
        data_parallel_size=1,
        global_batch_size=size,
        interval=decision.interval,
        learning_rate=rate.learning_rate,
        optimizer_changes=rate.changes,
        limiting_factor=decision.limiting_factor,
        expected=expected,
        reasons=tuple(write_reasons(facts, decision, memory, throughput, noise, expected, tried)),
        warnings=write_cautions(
            facts, decision, memory, throughput, noise, rate, soak=soak, loader=loader
        ),
        candidates=tabulate_tradeoff(decision.candidates, working),
        snippet=write_snippet(
            chosen,
            facts.optimizer,
            rate.learning_rate,
            rate.changes,
            loss_is_sum=facts.loss_reduction == "sum",
            workers=None if loader is None else loader.advised_workers,
        ),
    )


def list_ways(advice: Recommendation | None) -> Advised | None:
    """Return the advice as the trial needs it."""
    if advice is None:
        return None
    return Advised(
        global_batch_size=advice.global_batch_size,
        learning_rate=advice.learning_rate,
        ways={
            each.global_batch_size: Way(
                each.micro_batch_size, each.gradient_accumulation_steps, each.step_s
            )
            for each in advice.candidates
        },
    )


def plan_frontier(
    record: Record, noise: NoiseConclusion | None, advice: Recommendation | None
) -> Frontier | None:
    """Return time against cost; None where no size was timed."""
    if record.workload is None or advice is None:
        return None
    return conclude_frontier(
        advice.candidates,
        None if noise is None else noise.working,
        scenario=record.get(SCENARIO) or Scenario(),
        facts=record.workload,
    )


def plan_schedules(
    record: Record, noise: NoiseConclusion | None, advice: Recommendation | None
) -> tuple[Schedule, ...]:
    """Return the schedules considered: by the noise scale, then in place of the user's own."""
    facts = record.workload
    if facts is None or advice is None:
        return ()
    advised = Pair(
        global_batch_size=advice.global_batch_size,
        learning_rate=advice.learning_rate.value,
        optimizer=facts.optimizer,
        loss_is_sum=facts.loss_reduction == "sum",
    )
    course = [] if noise is None else noise.course
    scales = [get_working_noise_scale(scale) for _, scale in course]
    by_noise = None
    steps = {each.step_source for each in record.all(NOISE_BATCHES)}
    # Checkpoints without a step are places in a list: nothing tells how far apart they lie.
    if noise is not None and noise.working is not None and steps <= {"steps"}:
        by_noise = conclude_schedule(advice.candidates, noise, advised)
    swap = conclude_decay_swap(
        advice.candidates,
        advised,
        scenario=record.get(SCENARIO) or Scenario(),
        facts=facts,
        largest_noise_scale=max((each for each in scales if each is not None), default=None),
    )
    return tuple(each for each in (by_noise, swap) if each is not None)


def choose_schedule(schedules: Sequence[Schedule]) -> tuple[ScheduleItem, ...]:
    """Return the items to follow: the swap that the user asked for before that by the noise."""
    return next((each.items for each in reversed(schedules) if each.items), ())


def _predict_gain(
    decision: Decision,
    base_batch_size: int | None,
    noise_scale: float | None,
    trial_ratio: float | None,
) -> Expected:
    """Return time and cost over those of the base batch, in proportion on one device."""
    bases = [each for each in decision.candidates if each.global_batch_size == base_batch_size]
    ratio = None
    if bases and noise_scale is not None:
        own, base = (predict_relative_time(e, noise_scale) for e in (decision.chosen, bases[0]))
        ratio = own / base
    return Expected(time_ratio=ratio, cost_ratio=ratio, trial_time_ratio=trial_ratio)


def _conclude(conclusions: Conclusions) -> Recommendation | None:
    return propose(
        conclusions.record,
        conclusions.of(MEMORY),
        conclusions.of(THROUGHPUT),
        conclusions.of(NOISE),
    )


def _conclude_frontier(conclusions: Conclusions) -> Frontier | None:
    return plan_frontier(conclusions.record, conclusions.of(NOISE), conclusions.of(ADVICE))


def _conclude_schedules(conclusions: Conclusions) -> tuple[Schedule, ...]:
    return plan_schedules(conclusions.record, conclusions.of(NOISE), conclusions.of(ADVICE))


def _conclude_schedule(conclusions: Conclusions) -> tuple[ScheduleItem, ...]:
    schedules = conclusions.of(SCHEDULES)
    return choose_schedule(schedules or ())


ADVICE = Topic("recommendation", Recommendation, _conclude)
FRONTIER = Topic("frontier", Frontier, _conclude_frontier)
SCHEDULE = Topic("schedule", tuple[ScheduleItem, ...], _conclude_schedule)
SCHEDULES = Topic("schedules", tuple[Schedule, ...], _conclude_schedules)
