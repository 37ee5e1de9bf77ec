"""Trains a batch that grows where the law proposes one and the time allows."""

from collections.abc import Callable

import msgspec

from advisor.engine.run import Run
from advisor.growth.data import GROWTH_BRANCHES, UNGROWN, Growth, GrowthTask, Legs
from advisor.growth.plan import (
    CONSTANT_LENGTHS,
    GROWING_LENGTHS,
    MOST_STARTS,
    list_lengths,
    select_branches,
)
from advisor.race.branches import DECAY_FRACTION
from advisor.race.loop_time import LOOP_TIMES, LoopTimes
from advisor.race.plan import FRESH, LEAST_FRESH
from advisor.race.stage import is_race_open

#: Samples of a batch on which losses are evaluated.
_EVALUATION_BATCH = 64


def continue_growth(run: Run, find_open: Callable[[], Growth | None]) -> bool:
    """Train the growing batch that is open from new starts; return whether there was one.

    It waits for the end of the race, whose winner it begins with.
    """
    times = run.of(LOOP_TIMES)
    if run.facts.script is not None or times is None or is_race_open(run):
        return False
    growth = find_open()
    if growth is None:
        return False
    trained = {each.seed for each in select_branches(growth, run.record.all(GROWTH_BRANCHES))}
    seeds = tuple(seed for seed in FRESH if seed not in trained)[:LEAST_FRESH]
    if len(trained) >= MOST_STARTS:  # they share no loss
        return False
    task = _make_task(run, growth, seeds)
    needed_s = run.start_s + len(seeds) * sum(
        _estimate_s(times, legs) for legs in (*task.growing, *task.constant)
    )
    more_s = needed_s - run.unspent_s
    if more_s > 0.0 and not run.may_take("trial", more_s):
        run.set(UNGROWN, f"no time was left for it, about {needed_s:.0f} s")
        return False
    run.extend(max(0.0, more_s))
    run.progress.stage("schedule: a growing batch beside the constant one", left_s=run.left_s)
    before = len(run.record.all(GROWTH_BRANCHES))
    with run.noting_ends("schedule"):
        run.runner.run(
            msgspec.structs.replace(task, budget_s=run.left_s),  # it may have been extended
            timeout_s=run.left_s,
            on_result=lambda branch: run.add(GROWTH_BRANCHES, branch),
        )
    return len(run.record.all(GROWTH_BRANCHES)) > before


def _make_task(run: Run, growth: Growth, seeds: tuple[int, ...]) -> GrowthTask:
    growing, constant = (
        list_lengths(legs, fractions, is_stretched=growth.is_stretched)
        for legs, fractions in (
            (growth.growing, GROWING_LENGTHS),
            (growth.constant, CONSTANT_LENGTHS),
        )
    )
    largest = max(leg.micro_batch_size for leg in growth.growing)
    return GrowthTask(
        workload=run.spec.workload,
        growing=growing,
        constant=constant,
        seeds=seeds,
        rate_course=growth.rate_course,
        learning_rate=growth.learning_rate,
        beta2=growth.beta2,
        weight_decay=growth.weight_decay,
        loss_is_sum=run.facts.loss_reduction == "sum",
        evaluation_batch_size=max(run.facts.min_micro_batch_size, min(_EVALUATION_BATCH, largest)),
        decay_fraction=DECAY_FRACTION,
        budget_s=run.left_s,
    )


def _estimate_s(times: LoopTimes, legs: Legs) -> float:
    """Return the seconds of a branch that loads for itself."""
    return sum(
        leg.steps * times.estimate_alone_s(leg.micro_batch_size, leg.gradient_accumulation_steps)
        for leg in legs
    )
