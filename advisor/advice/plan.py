"""The conclusions of a run -> its one recommendation, and what follows beyond one batch."""

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
from advisor.advice.tradeoff import predict_relative_time, tabulate_tradeoff
from advisor.engine.conclusions import Conclusions, Topic
from advisor.loader.plan import LOADER
from advisor.memory.plan import MEMORY
from advisor.noise.data import NOISE_BATCHES, get_working_noise_scale
from advisor.noise.plan import NOISE
from advisor.rate.conclude import needs_range, settle_ranged_rate, settle_rate
from advisor.rate.data import LR_RANGES, TRIALS, Advised
from advisor.rate.trial import TRIED
from advisor.soak.data import SOAKS
from advisor.soak.plan import SOAK, find_failed_sizes
from advisor.throughput.conclude import THROUGHPUT


def _conclude(conclusions: Conclusions) -> Recommendation | None:
    """Return the recommendation, or None where no size was timed.

    Its learning rate has a value only once the record's trials hold that batch and rate, and they
    pass; until then it is a proposal for the trial to run.
    """
    record, facts = conclusions.record, conclusions.record.workload
    memory, throughput = conclusions.of(MEMORY), conclusions.of(THROUGHPUT)
    tried = conclusions.of(TRIED)
    if facts is None or memory is None or throughput is None or tried is None:
        return None
    noise, loader, limits = conclusions.of(NOISE), conclusions.of(LOADER), record.command.limits
    scale, working = (None, None) if noise is None else (noise.decisive, noise.working)
    decision = decide(
        facts,
        memory,
        throughput,
        scale,
        tried_s=tried.times_s,
        global_batch_size=limits.global_batch_size,
        failed_micro_batch_size=min(find_failed_sizes(record.all(SOAKS)), default=None),
        batch_multiple=limits.batch_multiple,
    )
    if decision is None:
        return None
    chosen, size = decision.chosen, decision.chosen.global_batch_size
    if needs_range(facts):
        rate = settle_ranged_rate(facts, record.all(LR_RANGES), record.all(TRIALS), size)
    else:
        rate = settle_rate(facts, size, scale, tried)
    trial_ratio = None if rate.learning_rate.value is None else tried.compare_time(size)
    expected = _predict_gain(decision, facts.base_batch_size, working, trial_ratio)
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
            facts, decision, memory, throughput, noise, rate, conclusions.of(SOAK), loader
        ),
        candidates=tabulate_tradeoff(decision.candidates, working),
        snippet=write_snippet(
            chosen,
            facts,
            rate.learning_rate.value,
            rate.changes,
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
        ways={each.global_batch_size: each for each in advice.candidates},
    )


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


def _conclude_frontier(conclusions: Conclusions) -> Frontier | None:
    """Return time against cost; None where no size was timed."""
    record, noise = conclusions.record, conclusions.of(NOISE)
    facts, advice = record.workload, conclusions.of(ADVICE)
    if facts is None or advice is None:
        return None
    return conclude_frontier(
        advice.candidates,
        None if noise is None else noise.working,
        scenario=record.get(SCENARIO) or Scenario(),
        facts=facts,
    )


def _conclude_schedules(conclusions: Conclusions) -> tuple[Schedule, ...]:
    """Return the schedules considered: by the noise scale, then in place of the user's own."""
    record, noise = conclusions.record, conclusions.of(NOISE)
    facts, advice = record.workload, conclusions.of(ADVICE)
    if facts is None or advice is None:
        return ()
    advised = Pair(
        global_batch_size=advice.global_batch_size,
        learning_rate=advice.learning_rate.value,
        optimizer=facts.optimizer,
        loss_is_sum=facts.loss_reduction == "sum",
    )
    by_noise = None
    steps = {each.step_source for each in record.all(NOISE_BATCHES)}
    # Checkpoints without a step are places in a list: nothing tells how far apart they lie.
    if noise is not None and noise.working is not None and steps <= {"steps"}:
        by_noise = conclude_schedule(advice.candidates, noise, advised)
    course = () if noise is None else noise.course
    scales = [get_working_noise_scale(scale) for _, scale in course]
    swap = conclude_decay_swap(
        advice.candidates,
        advised,
        scenario=record.get(SCENARIO) or Scenario(),
        facts=facts,
        largest_noise_scale=max((each for each in scales if each is not None), default=None),
    )
    return tuple(each for each in (by_noise, swap) if each is not None)


def _choose_schedule(conclusions: Conclusions) -> tuple[ScheduleItem, ...]:
    """Return the items to follow: the swap that the user asked for before that by the noise."""
    schedules = conclusions.of(SCHEDULES)
    return next((each.items for each in reversed(schedules or ()) if each.items), ())


ADVICE = Topic("recommendation", Recommendation, _conclude)
FRONTIER = Topic("frontier", Frontier, _conclude_frontier)
SCHEDULE = Topic("schedule", tuple[ScheduleItem, ...], _choose_schedule)
SCHEDULES = Topic("schedules", tuple[Schedule, ...], _conclude_schedules)
