"""A rate from scratch: the range test at one batch, then the trial of the rate that it suggests."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec.structs import replace

from advisor.engine.budget import RANGE_OF_LEFT, TRIAL_OF_LEFT
from advisor.engine.ends import WorkerTimeoutError
from advisor.engine.question import Kind, Question
from advisor.engine.record import Series
from advisor.engine.run import Run
from advisor.errors import AdvisorError, UsageError
from advisor.rate.conclude import (
    FIRST_TRIAL_SEED,
    LEARNING_RATE,
    LEAST_SEEDS,
    LR_RANGE,
    Verdict,
    choose_next_rate,
    judge_alone,
    needs_range,
)
from advisor.rate.data import TRIALS, BranchTask, Candidate, TrialTask
from advisor.rate.range_data import LR_RANGES, RANGE, LrRangeTask, RangePlan
from advisor.rate.range_test import conclude_lr_range
from advisor.rate.tell import draw_up_screen, head_lr_range, tell_lr_range
from advisor.training.data import WorkloadFacts

#: The rate around which a range lies where the optimizer's own is 0.
_USUAL_RATE = 0.01
#: The range around the optimizer's own rate: seven decades, since that rate may be anything.
LOW_FACTOR, HIGH_FACTOR = 1e-4, 1e3
#: The range must span this much at least: below, noise decides where the loss is lowest.
_LEAST_SPAN = 10.0
#: Fewest steps of a curve: over seven decades each is then a factor of 1.3.
_LEAST_CURVE_STEPS = 60
#: Optimizer steps of a trial's branch, and the least worth judging.
_STEPS, _LEAST_STEPS = 100, 20
#: Samples of one evaluation pass, where memory allows.
_EVALUATION_BATCH = 64
#: Rates that are expected to be tried, for the division of the time.
_EXPECTED_RATES = 4
#: Time of a trial step over a step of the range test: evaluations come on top.
_OVERHEAD = 1.3
T = TypeVar("T")


def resolve_plan(asked: RangePlan, facts: WorkloadFacts) -> RangePlan:
    """Return what was asked with its defaults filled in.

    Raises UsageError where there is nothing to learn from, or batch or range are impossible.
    """
    unit, most, optimizer = facts.sample_unit, facts.dataset_size, facts.optimizer
    part = asked.micro_batch_size or 1
    size = asked.global_batch_size or max(facts.usual_batch_size // part, 1) * part
    micro = asked.micro_batch_size or size
    own_rate = None if optimizer is None else optimizer.learning_rate
    low = asked.low_rate or (own_rate or _USUAL_RATE) * LOW_FACTOR
    high = asked.high_rate or (own_rate or _USUAL_RATE) * HIGH_FACTOR
    refusals = (
        (
            facts.is_step_only,
            f"{facts.file} has make_step, which keeps its optimizer to itself",
            "Write make_model, make_dataset and make_optimizer for a range test.",
        ),
        (
            not facts.has_dataset,
            f"{facts.file} has no make_dataset, and synthetic batches leave nothing to learn",
            "Add make_dataset to the model file.",
        ),
        (
            own_rate is None,
            f"the optimizer of {facts.file} has no learning rate",
            "Give one whose parameter groups have `lr`.",
        ),
        (
            most is not None and size > most,
            f"--global-batch-size {size} is more than the dataset's {most} {unit}s",
            f"Give {most} or less.",
        ),
        (
            size % micro,
            f"--micro-batch-size {micro} does not divide the batch of {size}",
            "Give a divisor of it, or another --global-batch-size.",
        ),
        (
            micro < facts.min_micro_batch_size,
            f"the model does not train at micro-batch {micro}",
            f"Give {facts.min_micro_batch_size} or more.",
        ),
        (
            optimizer is not None and optimizer.needs_closure and micro != size,
            f"{optimizer and optimizer.name} evaluates its batch again, which cannot be split",
            "Leave out --micro-batch-size.",
        ),
        (
            high < low * _LEAST_SPAN,
            f"the range from {low:.3g} to {high:.3g} is too narrow",
            "Let --to be at least ten times --from.",
        ),
    )
    for is_refused, fault, next_step in refusals:
        if is_refused:
            raise UsageError(fault, next_step=next_step)
    return replace(
        asked,
        global_batch_size=size,
        micro_batch_size=micro,
        gradient_accumulation_steps=size // micro,
        low_rate=low,
        high_rate=high,
    )


def run_ranged_rate(run: Run, find_way: Callable[[], Candidate | None]) -> None:
    """Find a rate at a batch where the run has no base rate that a rule could scale."""
    if not (needs_range(run.facts) and run.facts.has_dataset) or run.is_spent:
        return
    way = find_way()
    if way is None:
        return
    asked = RangePlan(
        global_batch_size=way.global_batch_size, micro_batch_size=way.micro_batch_size
    )
    try:
        search_rate(run, resolve_plan(asked, run.facts))
    except WorkerTimeoutError:
        run.progress.note("range test: it took longer than the time left")
    except AdvisorError as error:
        run.progress.note(f"range test: {error.message}")


def search_rate(run: Run, plan: RangePlan) -> None:
    """Run the range test; try the rate that it suggests, then towards the best one."""
    task, left_s = _make_range_task(run, plan), run.left_s
    run.progress.stage(f"learning-rate range test: batch {task.global_batch_size}", left_s=left_s)
    started = time.monotonic()
    curves = run_starts(run, task, LR_RANGES)
    conclusion = conclude_lr_range(curves)
    if conclusion is None:
        run.progress.note(f"range test: no time left for {task.least_steps} steps a seed")
        return
    if conclusion.suggested is None:
        run.progress.note(f"range test: {conclusion.reason}")
        return
    step_s = (time.monotonic() - started) / sum(len(curve.rates) for curve in curves)
    each_s = _OVERHEAD * LEAST_SEEDS * _EXPECTED_RATES * step_s
    steps = min(_STEPS, int(TRIAL_OF_LEFT * run.left_s / each_s)) if each_s > 0 else _STEPS
    if steps < _LEAST_STEPS:
        run.progress.note("trial: no time left to try the suggested rate")
        return
    _try_rates(run, task, conclusion.suggested, conclusion.fall, steps)


def _make_range_task(run: Run, plan: RangePlan) -> LrRangeTask:
    """Return the range test within its share of the time left."""
    size, micro = plan.global_batch_size, plan.micro_batch_size
    assert size is not None
    assert micro is not None
    assert plan.low_rate is not None
    assert plan.high_rate is not None
    workload = run.spec.workload
    return LrRangeTask(
        workload=workload,
        micro_batch_size=micro,
        gradient_accumulation_steps=size // micro,
        low_rate=plan.low_rate,
        high_rate=plan.high_rate,
        steps=plan.steps,
        least_steps=min(plan.steps, _LEAST_CURVE_STEPS),
        seeds=tuple(workload.seed + seed for seed in range(plan.seeds)),
        loss_is_sum=run.facts.loss_reduction == "sum",
        budget_s=RANGE_OF_LEFT * run.left_s,
    )


def _try_rates(run: Run, task: LrRangeTask, suggested: float, fall: float, steps: int) -> None:
    tried: dict[float, Verdict] = {}
    started, first = time.monotonic(), task.seeds[0] + FIRST_TRIAL_SEED
    while (rate := choose_next_rate(suggested, tried)) is not None:
        spent_s = time.monotonic() - started
        if tried and spent_s / len(tried) > run.left_s:
            run.progress.note("trial: no time left to try another rate")
            return
        size = task.global_batch_size
        run.progress.stage(f"trial: batch {size}, rate {rate:.3g}", left_s=run.left_s)
        trial = make_trial(
            run,
            largest=task.micro_batch_size,
            micro_batch_size=task.micro_batch_size,
            gradient_accumulation_steps=task.gradient_accumulation_steps,
            learning_rate=rate,
            samples=steps * size,
            seeds=tuple(range(first, first + LEAST_SEEDS)),
        )
        verdict = judge_alone(run_starts(run, trial, TRIALS), fall=fall)
        if verdict.is_too_short:
            return
        tried[rate] = verdict


def choose_evaluation_batch(run: Run, largest: int) -> int:
    """Return the micro-batch of evaluations where training's are up to the largest."""
    return max(run.facts.min_micro_batch_size, min(_EVALUATION_BATCH, largest))


def make_trial(run: Run, *, largest: int, **settings: Any) -> TrialTask:
    """Return a trial with these settings, evaluated at micro-batches up to the largest."""
    return TrialTask(
        workload=run.spec.workload,
        evaluation_batch_size=choose_evaluation_batch(run, largest),
        loss_is_sum=run.facts.loss_reduction == "sum",
        budget_s=run.left_s,
        **settings,
    )


def run_starts(
    run: Run, task: BranchTask[T], series: Series[T], watch: Callable[[T], None] | None = None
) -> tuple[T, ...]:
    """Keep each result as it comes, and return them all; `watch` may end that by an error."""

    def keep(result: T) -> None:
        run.add(series, result)
        if watch is not None:
            watch(result)

    starts = [task]
    if task.workload.script is not None:  # each branch of it is a start of its own
        seeds = (replace(task, seeds=(seed,)) for seed in task.seeds)
        starts = [branch for each in seeds for branch in each.list_branches()]
    return tuple(
        result
        for start in starts
        for result in run.runner.run(start, timeout_s=run.left_s, on_result=keep)
    )


def plan_range(run: Run) -> None:
    """Keep what is to be tested."""
    run.set(RANGE, resolve_plan(run.record.get(RANGE) or RangePlan(), run.facts))


QUESTION = Question(
    name="lr-range",
    keys=(RANGE, LR_RANGES, TRIALS),
    topics=(LR_RANGE, LEARNING_RATE),
    check=plan_range,
    run=lambda run: search_rate(run, run.record.get(RANGE) or RangePlan()),
    tell=tell_lr_range,
)
KIND = Kind(
    name="lr-range",
    noun="range test",
    command="lr-range",
    questions=(QUESTION,),
    headline=head_lr_range,
    screen=draw_up_screen,
    is_worth_telling=lambda record, _: bool(record.all(LR_RANGES)),
)
