"""The trial: rates at the advised batch are trained briefly before one of them is printed."""

from typing import cast

import msgspec

from advisor.analysis.trial import judge_trial
from advisor.conclusions import Derived, Recommendation
from advisor.measurements import OptimizerFacts, TrialBranch
from advisor.probe.runner import WorkerTimeoutError
from advisor.recommend import derive
from advisor.search.rate import TriedRate, choose_next_rate
from advisor.session.run import Run
from advisor.spec import TrialTask

#: Starts from which every pair is trained.
_SEEDS = (0, 1, 2)
#: Optimizer steps of the advised pair that the trial aims at, and the least worth judging.
_STEPS, _LEAST_STEPS = 100, 20
#: Evaluations along a branch: enough to compare curves of different batches at equal samples.
_EVALUATIONS = 20
#: Share of the time left that the trial may plan for; the rest is for the soak.
_BUDGET_FRACTION = 0.85
#: Samples of one evaluation pass where memory allows.
_EVALUATION_BATCH = 64
#: Rates that are expected to be tried, for the division of the time.
_EXPECTED_RATES = 4
#: Time of a trial step over a timed step: data loading and evaluation come on top.
_OVERHEAD = 1.5


def run_trial(run: Run) -> None:
    """Try the proposed rate at the advised batch against the base pair, then towards the best rate.

    Leaves the record as it is where there is nothing to try; the recommendation then says why.
    """
    derived = derive(run.record)
    advice, optimizer = derived.recommendation, run.facts.optimizer
    if advice is None or optimizer is None or not run.facts.has_dataset or run.is_spent:
        return
    rate = advice.learning_rate
    if rate.proposed is None or rate.base_value is None or rate.base_batch_size is None:
        return  # without a base batch the range test's stage has tried its own rate
    steps = _choose_steps(run, derived, advice, rate.base_batch_size)
    if steps < _LEAST_STEPS:
        run.progress.note("trial: no time left to try the advised rate")
        return
    try:
        _try_rates(run, derived, advice, optimizer, steps)
    except WorkerTimeoutError:
        run.progress.note("trial: it took longer than the time left")


def _try_rates(
    run: Run, derived: Derived, advice: Recommendation, optimizer: OptimizerFacts, steps: int
) -> None:
    rate = advice.learning_rate
    assert rate.proposed is not None
    assert rate.base_value is not None
    assert rate.base_batch_size is not None
    samples = steps * advice.global_batch_size
    base_task = _base_task(run, advice, rate.base_value, rate.base_batch_size, samples)
    if base_task is None:
        run.progress.note(f"trial: batch {rate.base_batch_size} does not fit and cannot be split")
        return
    base = _train(run, base_task)
    tried: list[TriedRate] = []
    if advice.global_batch_size == rate.base_batch_size:
        verdict = judge_trial(base, base, _noise_scale(derived))
        if not verdict.passed:
            return
        tried.append(TriedRate(rate=rate.base_value, passed=True, end_loss=verdict.end_loss))
    while (
        value := choose_next_rate(rate.proposed, rate.base_value, tried)
    ) is not None and not run.is_spent:
        branches = _train(run, _advised_task(run, advice, optimizer, value, samples))
        verdict = judge_trial(base, branches, _noise_scale(derived))
        if verdict.base_failed or verdict.is_too_short:  # nothing can be judged against it
            return
        tried.append(TriedRate(rate=value, passed=verdict.passed, end_loss=verdict.end_loss))


def _train(run: Run, task: TrialTask) -> tuple[TrialBranch, ...]:
    batch = task.micro_batch_size * task.gradient_accumulation_steps
    run.progress.stage(f"trial: batch {batch}, rate {task.learning_rate:.3g}", left_s=run.left_s)
    results = run.runner.run(
        task,
        timeout_s=run.left_s,
        on_result=lambda branch: run.keep_trial(cast("TrialBranch", branch)),
    )
    return cast("tuple[TrialBranch, ...]", results)


def _base_task(
    run: Run, advice: Recommendation, rate: float, batch_size: int, samples: int
) -> TrialTask | None:
    """Return the user's own pair, accumulated where its batch does not fit, if it can be split."""
    micro, accumulation = batch_size, 1
    largest = max(advice.micro_batch_size, *(c.micro_batch_size for c in advice.candidates), 1)
    if batch_size > largest:
        smallest = run.facts.min_micro_batch_size
        fitting = [n for n in range(largest, smallest - 1, -1) if batch_size % n == 0]
        if not fitting:
            return None
        micro, accumulation = fitting[0], batch_size // fitting[0]
    return _make_task(
        run,
        advice,
        micro_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        learning_rate=rate,
        samples=samples,
    )


def _advised_task(
    run: Run, advice: Recommendation, optimizer: OptimizerFacts, rate: float, samples: int
) -> TrialTask:
    task = _make_task(
        run,
        advice,
        micro_batch_size=advice.micro_batch_size,
        gradient_accumulation_steps=advice.gradient_accumulation_steps,
        learning_rate=rate,
        samples=samples,
    )
    changes = advice.optimizer_changes
    return msgspec.structs.replace(
        task,
        beta2=changes.beta2 if optimizer.beta2 is not None else None,
        weight_decay=changes.weight_decay,
    )


def _make_task(
    run: Run,
    advice: Recommendation,
    *,
    micro_batch_size: int,
    gradient_accumulation_steps: int,
    learning_rate: float,
    samples: int,
) -> TrialTask:
    """Return a task that differs from those it is compared with in nothing but the arguments."""
    return TrialTask(
        workload=run.spec.workload,
        micro_batch_size=micro_batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        learning_rate=learning_rate,
        samples=samples,
        evaluations=_EVALUATIONS,
        seeds=_SEEDS,
        evaluation_batch_size=_choose_evaluation_batch(run, advice),
        loss_is_sum=run.facts.loss_reduction == "sum",
        budget_s=run.left_s,
    )


def _choose_evaluation_batch(run: Run, advice: Recommendation) -> int:
    """Return a size that fits wherever the advised micro-batch does."""
    return max(run.facts.min_micro_batch_size, min(_EVALUATION_BATCH, advice.micro_batch_size))


def _choose_steps(run: Run, derived: Derived, advice: Recommendation, base_batch_size: int) -> int:
    """Return the steps of the advised pair that the time left allows for all branches."""
    advised_s = _step_s(derived, advice.global_batch_size)
    base_s = _step_s(derived, base_batch_size) * advice.global_batch_size / base_batch_size
    each_s = _OVERHEAD * len(_SEEDS) * (_EXPECTED_RATES * advised_s + base_s)
    return min(_STEPS, int(_BUDGET_FRACTION * run.left_s / each_s)) if each_s > 0 else _STEPS


def _step_s(derived: Derived, batch_size: int) -> float:
    """Return the seconds of a step, from the nearest measured size at least as large."""
    assert derived.throughput is not None
    points = derived.throughput.points
    larger = [point for point in points if point.micro_batch_size >= batch_size]
    point = larger[0] if larger else points[-1]
    step_s = point.step_s.point or 0.0
    return step_s * max(1.0, batch_size / point.micro_batch_size)


def _noise_scale(derived: Derived) -> float | None:
    decisive = derived.noise.decisive if derived.noise is not None else None
    return None if decisive is None else decisive.point
