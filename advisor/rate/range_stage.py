"""A rate from scratch: the range test at one batch, then the trial of the rate that it suggests."""

import time
from collections.abc import Callable

import msgspec

from advisor.engine.budget import RANGE_OF_LEFT, TRIAL_OF_LEFT
from advisor.engine.run import Run
from advisor.engine.runner import WorkerTimeoutError
from advisor.errors import DeviceError
from advisor.rate.conclude import needs_range
from advisor.rate.data import (
    LR_RANGES,
    RANGE,
    TRIALS,
    Advised,
    LrRangeConclusion,
    LrRangeTask,
    RangePlan,
    TrialBranch,
)
from advisor.rate.range_plan import resolve_plan
from advisor.rate.range_test import conclude_lr_range
from advisor.rate.search import choose_next_rate
from advisor.rate.trial import rank_rate
from advisor.rate.trial_tasks import LEAST_STEPS, SEEDS, STEPS, make_task
from advisor.rate.verdict import judge_alone

#: Fewest steps of a curve: over seven decades each is then a factor of 1.3.
_LEAST_CURVE_STEPS = 60
#: The first start of the trial: the range test has none of them.
_FIRST_TRIAL_SEED = 1000
#: Rates that are expected to be tried, for the division of the time.
_EXPECTED_RATES = 4
#: Time of a trial step over a step of the range test: evaluations come on top.
_OVERHEAD = 1.3


def run_lr_range(run: Run) -> None:
    """Run the range test that was asked for, and the trial after it."""
    plan = run.record.get(RANGE)
    assert plan is not None
    _search_rate(run, plan)


def run_ranged_rate(run: Run, advise: Callable[[], Advised | None]) -> None:
    """Find a rate at the advised batch where the run has no base rate that a rule could scale."""
    if not (needs_range(run.facts) and run.facts.has_dataset) or run.is_spent:
        return
    advice = advise()
    if advice is None:
        return
    size = advice.global_batch_size
    asked = RangePlan(global_batch_size=size, micro_batch_size=advice.ways[size].micro_batch_size)
    try:
        _search_rate(run, resolve_plan(asked, run.facts))
    except WorkerTimeoutError:
        run.progress.note("range test: it took longer than the time left")
    except DeviceError as error:
        run.progress.note(f"range test: {error.message}")


def _search_rate(run: Run, plan: RangePlan) -> None:
    """Run the range test; try the rate that it suggests, then towards the best one."""
    task, left_s = _make_range_task(run, plan), run.left_s
    run.progress.stage(f"learning-rate range test: batch {plan.global_batch_size}", left_s=left_s)
    started = time.monotonic()
    curves = run.runner.run(
        task, timeout_s=left_s, on_result=lambda curve: run.add(LR_RANGES, curve)
    )
    conclusion = conclude_lr_range(curves)
    if conclusion is None:
        run.progress.note(f"range test: no time left for {task.least_steps} steps a seed")
        return
    if conclusion.suggested is None:
        run.progress.note(f"range test: {conclusion.reason}")
        return
    ran = sum(len(curve.rates) for curve in curves)
    steps = _choose_trial_steps((time.monotonic() - started) / ran, run.left_s)
    if steps < LEAST_STEPS:
        run.progress.note("trial: no time left to try the suggested rate")
        return
    _try_rates(run, task, conclusion, conclusion.suggested, steps)


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


def _choose_trial_steps(step_s: float, left_s: float) -> int:
    each_s = _OVERHEAD * len(SEEDS) * _EXPECTED_RATES * step_s
    return min(STEPS, int(TRIAL_OF_LEFT * left_s / each_s)) if each_s > 0 else STEPS


def _try_rates(
    run: Run, task: LrRangeTask, conclusion: LrRangeConclusion, suggested: float, steps: int
) -> None:
    tried: dict[float, tuple[float, float] | None] = {}
    started = time.monotonic()
    while (rate := choose_next_rate(suggested, suggested, tried)) is not None:
        spent_s = time.monotonic() - started
        if tried and spent_s / len(tried) > run.left_s:
            run.progress.note("trial: no time left to try another rate")
            return
        verdict = judge_alone(_train(run, task, rate, steps), fall=conclusion.fall)
        if verdict.is_too_short:
            return
        tried[rate] = rank_rate(verdict, None) if verdict.passed else None


def _train(run: Run, task: LrRangeTask, rate: float, steps: int) -> tuple[TrialBranch, ...]:
    trial = make_task(
        run,
        task.micro_batch_size,
        task.gradient_accumulation_steps,
        rate,
        steps=steps,
        largest=task.micro_batch_size,
    )
    first = task.seeds[0] + _FIRST_TRIAL_SEED
    trial = msgspec.structs.replace(trial, seeds=tuple(first + seed for seed in SEEDS))
    run.progress.stage(
        f"trial: batch {trial.global_batch_size}, rate {rate:.3g}", left_s=run.left_s
    )
    return run.runner.run(
        trial, timeout_s=run.left_s, on_result=lambda branch: run.add(TRIALS, branch)
    )
