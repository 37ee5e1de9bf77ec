"""Whether a batch that grows saves time: trained where the law proposes one and the time allows.

It is told with the advice, which stands above it and says what is open.
"""

from collections.abc import Callable
from functools import partial

from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.growth.data import GROWTH_BRANCHES, UNGROWN, Growth, GrowthTask
from advisor.growth.plan import (
    CONSTANT_LENGTHS,
    GROWING_LENGTHS,
    MOST_STARTS,
    list_lengths,
    select_branches,
)
from advisor.race.loop_time import LOOP_TIMES
from advisor.race.plan import FRESH, LEAST_FRESH
from advisor.race.stage import is_race_open
from advisor.race.trainer import DECAY_FRACTION
from advisor.rate.range_stage import make_trial


def make_question(find_open: Callable[[Run], Growth | None]) -> Question:
    """Return the question."""
    return Question(
        name="schedule",
        keys=(GROWTH_BRANCHES, UNGROWN),
        more=lambda run: continue_growth(run, find_open),
        fails_alone=True,
    )


def continue_growth(run: Run, find_open: Callable[[Run], Growth | None]) -> bool:
    """Train the growing batch that is open from new starts; return whether there was one.

    It waits for the end of the race, whose winner it begins with.
    """
    times, is_script = run.of(LOOP_TIMES), run.facts.script is not None
    if is_script or times is None or is_race_open(run) or (growth := find_open(run)) is None:
        return False
    trained = {each.seed for each in select_branches(growth, run.record.all(GROWTH_BRANCHES))}
    seeds = tuple(seed for seed in FRESH if seed not in trained)[:LEAST_FRESH]
    if len(trained) >= MOST_STARTS:  # they share no loss
        return False
    growing, constant = (
        list_lengths(legs, lengths, is_stretched=growth.is_stretched)
        for legs, lengths in (
            (growth.growing, GROWING_LENGTHS),
            (growth.constant, CONSTANT_LENGTHS),
        )
    )
    steps_s = (
        leg.steps * times.estimate_alone_s(*leg.split)
        for legs in (*growing, *constant)
        for leg in legs
    )
    needed_s = run.start_s + len(seeds) * sum(steps_s)
    if not run.take_more("trial", needed_s - run.unspent_s):
        run.set(UNGROWN, f"no time was left for it, about {needed_s:.0f} s")
        return False
    run.progress.stage("schedule: a growing batch beside the constant one", left_s=run.left_s)
    first = growth.constant[0]
    task = GrowthTask(
        workload=run.spec.workload,
        growing=growing,
        constant=constant,
        rate_course=growth.rate_course,
        trial=make_trial(
            run,
            largest=max(leg.micro_batch_size for leg in growth.growing),
            micro_batch_size=first.micro_batch_size,
            gradient_accumulation_steps=first.gradient_accumulation_steps,
            learning_rate=growth.learning_rate,
            beta2=growth.changes.beta2,
            weight_decay=growth.changes.weight_decay,
            samples=first.samples,
            seeds=seeds,
            decay_fraction=DECAY_FRACTION,
        ),
    )
    before = run.record.all(GROWTH_BRANCHES)
    with run.noting_ends("schedule"):
        run.runner.run(task, timeout_s=run.left_s, on_result=partial(run.add, GROWTH_BRANCHES))
    return run.record.all(GROWTH_BRANCHES) != before
