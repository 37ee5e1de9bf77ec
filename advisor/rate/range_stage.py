"""A rate from scratch: the range test at one batch, then the trial of the rate that it suggests."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from advisor.engine.progress import Progress
from advisor.engine.run import Run
from advisor.engine.runner import TaskRunner, WorkerTimeoutError
from advisor.errors import DeviceError
from advisor.rate.conclude import needs_range
from advisor.rate.data import (
    LR_RANGES,
    TRIALS,
    Advised,
    LrRangeConclusion,
    LrRangeCurve,
    LrRangeTask,
    TrialBranch,
)
from advisor.rate.range_test import conclude_lr_range
from advisor.rate.search import choose_next_rate
from advisor.rate.trial import rank_rate
from advisor.rate.trial_tasks import LEAST_STEPS as LEAST_TRIAL_STEPS
from advisor.rate.trial_tasks import SEEDS as TRIAL_SEEDS
from advisor.rate.trial_tasks import STEPS as TRIAL_STEPS
from advisor.rate.trial_tasks import make_task
from advisor.rate.verdict import judge_alone
from advisor.training.data import WorkloadFacts, WorkloadSpec

#: The range around the optimizer's own rate: seven decades, since that rate may be anything.
LOW_FACTOR, HIGH_FACTOR = 1e-4, 1e3
#: Steps of a curve where the time allows, and the seeds.
STEPS, SEEDS = 200, 3
#: Fewest steps of a curve: over seven decades each is then a factor of 1.3.
LEAST_STEPS = 60
#: Share of the time left that the range test may take; its trial takes about as long.
_RANGE_FRACTION = 0.45
#: Share of the time left that the trial plans with.
_TRIAL_FRACTION = 0.85
#: The first start of the trial: the range test has none of them.
_FIRST_TRIAL_SEED = 1000
#: Rates that are expected to be tried, for the division of the time.
_EXPECTED_RATES = 4
#: Time of a trial step over a step of the range test: evaluations come on top.
_OVERHEAD = 1.3


@dataclass(frozen=True, kw_only=True)
class Search:
    """What the search for a rate works with, whichever command asks for it.

    Attributes:
        left_s: Tells the seconds that are left.
        keep_curve: Given each curve.
        keep_trial: Given each trial branch.
    """

    workload: WorkloadSpec
    facts: WorkloadFacts
    runner: TaskRunner
    progress: Progress
    left_s: Callable[[], float]
    keep_curve: Callable[[LrRangeCurve], None]
    keep_trial: Callable[[TrialBranch], None]


def run_ranged_rate(run: Run, advise: Callable[[], Advised | None]) -> None:
    """Find a rate at the advised batch where the run has no base rate that a rule could scale."""
    advice, optimizer = advise(), run.facts.optimizer
    if advice is None or optimizer is None or not run.facts.has_dataset or run.is_spent:
        return
    if not needs_range(run.facts):
        return
    assert optimizer.learning_rate is not None
    way = advice.ways[advice.global_batch_size]
    search = Search(
        workload=run.spec.workload,
        facts=run.facts,
        runner=run.runner,
        progress=run.progress,
        left_s=lambda: run.left_s,
        keep_curve=lambda curve: run.add(LR_RANGES, curve),
        keep_trial=lambda branch: run.add(TRIALS, branch),
    )
    task = make_range_task(
        search,
        micro_batch_size=way.micro_batch_size,
        gradient_accumulation_steps=way.gradient_accumulation_steps,
        low_rate=optimizer.learning_rate * LOW_FACTOR,
        high_rate=optimizer.learning_rate * HIGH_FACTOR,
    )
    try:
        search_rate(search, task)
    except WorkerTimeoutError:
        run.progress.note("range test: it took longer than the time left")
    except DeviceError as error:
        run.progress.note(f"range test: {error.message}")


def make_range_task(
    search: Search,
    *,
    micro_batch_size: int,
    gradient_accumulation_steps: int,
    low_rate: float,
    high_rate: float,
    steps: int = STEPS,
    seeds: int = SEEDS,
) -> LrRangeTask:
    """Return the range test at one batch, within its share of the time left."""
    first = search.workload.seed
    return LrRangeTask(
        workload=search.workload,
        micro_batch_size=micro_batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        low_rate=low_rate,
        high_rate=high_rate,
        steps=steps,
        least_steps=min(steps, LEAST_STEPS),
        seeds=tuple(range(first, first + seeds)),
        loss_is_sum=search.facts.loss_reduction == "sum",
        budget_s=_RANGE_FRACTION * search.left_s(),
    )


def search_rate(search: Search, task: LrRangeTask) -> None:
    """Run the range test; try the rate that it suggests, then towards the best one."""
    size = task.micro_batch_size * task.gradient_accumulation_steps
    search.progress.stage(f"learning-rate range test: batch {size}", left_s=search.left_s())
    started = time.monotonic()
    curves = search.runner.run(task, timeout_s=search.left_s(), on_result=search.keep_curve)
    conclusion = conclude_lr_range(curves)
    if conclusion is None:
        search.progress.note(f"range test: no time left for {task.least_steps} steps a seed")
        return
    if conclusion.suggested is None:
        search.progress.note(f"range test: {conclusion.reason}")
        return
    ran = sum(len(curve.rates) for curve in curves)
    steps = _choose_trial_steps((time.monotonic() - started) / ran, search.left_s())
    if steps < LEAST_TRIAL_STEPS:
        search.progress.note("trial: no time left to try the suggested rate")
        return
    _try_rates(search, task, conclusion, conclusion.suggested, steps)


def _choose_trial_steps(step_s: float, left_s: float) -> int:
    each_s = _OVERHEAD * len(TRIAL_SEEDS) * _EXPECTED_RATES * step_s
    return min(TRIAL_STEPS, int(_TRIAL_FRACTION * left_s / each_s)) if each_s > 0 else TRIAL_STEPS


def _try_rates(
    search: Search, task: LrRangeTask, conclusion: LrRangeConclusion, suggested: float, steps: int
) -> None:
    tried: dict[float, tuple[float, float] | None] = {}
    started = time.monotonic()
    while (rate := choose_next_rate(suggested, suggested, tried)) is not None:
        spent_s = time.monotonic() - started
        if tried and spent_s / len(tried) > search.left_s():
            search.progress.note("trial: no time left to try another rate")
            return
        verdict = judge_alone(_train(search, task, rate, steps), fall=conclusion.fall)
        if verdict.is_too_short:
            return
        tried[rate] = rank_rate(verdict, None) if verdict.passed else None


def _train(search: Search, task: LrRangeTask, rate: float, steps: int) -> tuple[TrialBranch, ...]:
    size, left_s = task.micro_batch_size * task.gradient_accumulation_steps, search.left_s()
    search.progress.stage(f"trial: batch {size}, rate {rate:.3g}", left_s=left_s)
    trial = make_task(
        task.workload,
        search.facts,
        micro_batch_size=task.micro_batch_size,
        accumulation=task.gradient_accumulation_steps,
        rate=rate,
        steps=steps,
        largest=task.micro_batch_size,
        budget_s=left_s,
    )
    first = task.seeds[0] + _FIRST_TRIAL_SEED
    trial = msgspec.structs.replace(trial, seeds=tuple(first + seed for seed in TRIAL_SEEDS))
    return search.runner.run(trial, timeout_s=left_s, on_result=search.keep_trial)
