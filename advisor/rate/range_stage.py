"""A rate from scratch: the range test at one batch, then the trial of the rate that it suggests."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from advisor.engine.budget import RANGE_OF_LEFT, TRIAL_OF_LEFT
from advisor.engine.ends import WorkerTimeoutError
from advisor.engine.record import Series
from advisor.engine.run import Run
from advisor.errors import AdvisorError
from advisor.rate.alone import LEAST_SEEDS, Verdict, choose_next_rate, judge_alone
from advisor.rate.conclude import FIRST_TRIAL_SEED, needs_range
from advisor.rate.data import TRIALS, BranchTask, Candidate, TrialBranch, TrialTask
from advisor.rate.range_data import LR_RANGES, LrRangeTask, RangePlan
from advisor.rate.range_plan import resolve_plan
from advisor.rate.range_test import conclude_lr_range

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
    run.progress.stage(f"learning-rate range test: batch {plan.global_batch_size}", left_s=left_s)
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
    assert plan.global_batch_size is not None
    assert plan.micro_batch_size is not None
    assert plan.low_rate is not None
    assert plan.high_rate is not None
    workload = run.spec.workload
    return LrRangeTask(
        workload=workload,
        micro_batch_size=plan.micro_batch_size,
        gradient_accumulation_steps=plan.global_batch_size // plan.micro_batch_size,
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
    started = time.monotonic()
    while (rate := choose_next_rate(suggested, tried)) is not None:
        spent_s = time.monotonic() - started
        if tried and spent_s / len(tried) > run.left_s:
            run.progress.note("trial: no time left to try another rate")
            return
        verdict = judge_alone(_train(run, task, rate, steps), fall=fall)
        if verdict.is_too_short:
            return
        tried[rate] = verdict


def _train(run: Run, task: LrRangeTask, rate: float, steps: int) -> tuple[TrialBranch, ...]:
    first = task.seeds[0] + FIRST_TRIAL_SEED
    trial = make_trial(
        run,
        largest=task.micro_batch_size,
        micro_batch_size=task.micro_batch_size,
        gradient_accumulation_steps=task.gradient_accumulation_steps,
        learning_rate=rate,
        samples=steps * task.global_batch_size,
        seeds=tuple(first + seed for seed in range(LEAST_SEEDS)),
    )
    run.progress.stage(
        f"trial: batch {trial.global_batch_size}, rate {rate:.3g}", left_s=run.left_s
    )
    return run_starts(run, trial, TRIALS)


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

    return tuple(
        result
        for start in task.list_starts()
        for result in run.runner.run(start, timeout_s=run.left_s, on_result=keep)
    )
