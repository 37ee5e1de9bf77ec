"""The conclusions of a run -> its one recommendation."""

import msgspec

from advisor.advice.candidates import Candidate
from advisor.advice.cautions import write_cautions
from advisor.advice.data import Expected, Recommendation
from advisor.advice.decide import Decision
from advisor.advice.reasons import write_reasons
from advisor.advice.snippet import write_snippet
from advisor.advice.tradeoff import (
    predict_relative_time,
    tabulate_tradeoff,
)
from advisor.engine.run_record import RunRecord
from advisor.loader.plan import conclude_loader
from advisor.memory.data import MemoryConclusion
from advisor.noise.data import NoiseConclusion
from advisor.rate.conclude import settle_rate, why_not_run
from advisor.rate.data import Advised, OptimizerChanges, Way
from advisor.rate.range_conclude import explain_range, needs_range, settle_ranged_rate
from advisor.rate.tried import conclude_trials, plan_pair
from advisor.soak.advice import decide_soaked
from advisor.soak.plan import conclude_soak
from advisor.throughput.data import ThroughputConclusion


def propose(
    record: RunRecord,
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
    tried = conclude_trials(facts, record.trials, throughput, scale)
    decision = decide_soaked(
        facts,
        memory,
        throughput,
        scale,
        record.soaks,
        tried_s=tried.times_s,
        batch_multiple=record.command.limits.batch_multiple,
        global_batch_size=record.command.limits.global_batch_size,
    )
    if decision is None:
        return None
    size = decision.chosen.global_batch_size
    proposed, changes = plan_pair(facts, size, scale)
    if facts.optimizer is not None and needs_range(facts):
        changes = OptimizerChanges()
        rate = settle_ranged_rate(
            facts.optimizer,
            record.lr_ranges,
            record.trials,
            size,
            obstacle=why_not_run(facts),
            motive=explain_range(facts.optimizer),
        )
    else:
        rate = settle_rate(proposed, facts, size, tried)
    if rate.is_refuted:
        changes = OptimizerChanges()
    working = None if noise is None else noise.working
    loader = conclude_loader(record.loader_timings)
    expected = msgspec.structs.replace(
        _predict_gain(decision, facts.base_batch_size, working),
        trial_time_ratio=None if rate.learning_rate.value is None else tried.compare_time(size),
    )
    return Recommendation(
        micro_batch_size=decision.chosen.micro_batch_size,
        gradient_accumulation_steps=decision.chosen.gradient_accumulation_steps,
        data_parallel_size=1,
        global_batch_size=size,
        interval=decision.interval,
        learning_rate=rate.learning_rate,
        optimizer_changes=changes,
        limiting_factor=decision.limiting_factor,
        expected=expected,
        reasons=write_reasons(facts, decision, memory, throughput, noise, expected, tried),
        warnings=write_cautions(
            facts, decision, memory, throughput, noise, rate, conclude_soak(record.soaks), loader
        ),
        candidates=tabulate_tradeoff(decision.candidates, working),
        snippet=write_snippet(
            decision.chosen,
            facts.optimizer,
            rate.learning_rate,
            changes,
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


def _predict_gain(
    decision: Decision, base_batch_size: int | None, noise_scale: float | None
) -> Expected:
    """Return time and cost to train over those of the base batch; unknown without its step time.

    On one device the cost is in proportion to the time.
    """
    base = _find_candidate(decision, base_batch_size)
    if base is None or noise_scale is None:
        return Expected()
    ratio = predict_relative_time(decision.chosen, noise_scale) / predict_relative_time(
        base, noise_scale
    )
    return Expected(time_ratio=ratio, cost_ratio=ratio)


def _find_candidate(decision: Decision, size: int | None) -> Candidate | None:
    return next((each for each in decision.candidates if each.global_batch_size == size), None)
