"""The loss of every variant after the same steps: same starts, same samples, same rate."""

from typing import Any

import msgspec

from advisor.advice.plan import ADVICE
from advisor.engine.run import Run
from advisor.errors import AdvisorError
from advisor.memory.data import PROBES, Probe
from advisor.rate.data import TrialBranch, TrialTask
from advisor.throughput.step_time import estimate_compile_s, estimate_step_s, read_probes
from advisor.variants.data import VARIANTS, VariantRecord
from advisor.variants.plan import VARIANTS_TOPIC

#: Starts from which each variant trains.
_SEEDS = (0, 1, 2)
#: Optimizer steps where time allows, and the least worth comparing.
_STEPS, _LEAST_STEPS = 100, 20
#: Evaluations along a branch; the last three make its end.
_EVALUATIONS = 10
#: Samples of one evaluation pass where memory allows.
_EVALUATION_BATCH = 64
#: Time of a step here over a timed one: data loading and evaluation come on top.
_OVERHEAD = 1.5
#: Graphs that a branch compiles: training and evaluation, whose batches differ in size.
_GRAPHS = 2


def run_losses(run: Run) -> None:
    """Train each variant that runs for the same steps, or say for each why it was not."""
    variants = run.of(VARIANTS_TOPIC)
    fitting = {
        index: conclusion.max_micro_batch_size
        for index, conclusion in enumerate(variants or ())
        if conclusion.max_micro_batch_size is not None
    }
    obstacle = _find_obstacle(run)
    task = None if obstacle is not None else _make_task(run, fitting)
    late = f"no time was left for {_LEAST_STEPS} steps; raise --budget"
    for index, variant in enumerate(run.record.all(VARIANTS)):
        losses: tuple[TrialBranch, ...] = ()
        reason = obstacle or (None if index in fitting else "no size of it ran")
        if reason is None and (task is None or run.is_spent):
            reason = late
        elif reason is None and task is not None:
            losses, reason = _train(run, variant, task)
        keep(run, index, variant, losses=losses, loss_missing_because=reason)


def keep(run: Run, index: int, variant: VariantRecord, **changes: Any) -> None:
    """Put a variant in its place in the record, with changes."""
    variants = list(run.record.all(VARIANTS))
    variants[index] = msgspec.structs.replace(variant, **changes)
    run.replace(VARIANTS, tuple(variants))


def _find_obstacle(run: Run) -> str | None:
    """Return why no variant can be trained."""
    facts = run.facts
    if facts.is_step_only:
        return "make_step does not tell its loss"
    if not facts.has_dataset:
        return "without make_dataset there is nothing to learn"
    if facts.optimizer is None or facts.optimizer.learning_rate is None:
        return "the optimizer has no learning rate"
    return None


def _make_task(run: Run, fitting: dict[int, int]) -> TrialTask | None:
    """Return what every variant runs but for its precision; None where time does not suffice."""
    advice, optimizer = run.of(ADVICE), run.facts.optimizer
    assert optimizer is not None
    assert optimizer.learning_rate is not None
    largest = min(fitting.values(), default=0)
    wanted = run.facts.base_batch_size or (advice.micro_batch_size if advice is not None else None)
    size = min(wanted or largest, largest)
    budget_s = run.left_s / max(1, len(fitting))
    probes = [run.record.all(PROBES), *(each.probes for each in run.record.all(VARIANTS)[1:])]
    steps = min(_count_steps(probes[index], size, budget_s) for index in fitting or (0,))
    if steps < _LEAST_STEPS or run.is_spent:
        return None
    return TrialTask(
        workload=run.spec.workload,
        micro_batch_size=size,
        gradient_accumulation_steps=1,
        learning_rate=optimizer.learning_rate,
        samples=steps * size,
        evaluations=_EVALUATIONS,
        seeds=_SEEDS,
        evaluation_batch_size=max(run.facts.min_micro_batch_size, min(_EVALUATION_BATCH, largest)),
        loss_is_sum=run.facts.loss_reduction == "sum",
        budget_s=budget_s,
    )


def _count_steps(probes: tuple[Probe, ...], size: int, budget_s: float) -> int:
    """Return the optimizer steps of each branch that the time allows, at most those wanted."""
    step_s = estimate_step_s(read_probes(probes), size)
    if step_s is None:
        return 0
    steps_s = budget_s - _GRAPHS * len(_SEEDS) * estimate_compile_s(probes)
    return max(0, min(_STEPS, int(steps_s / (_OVERHEAD * len(_SEEDS) * step_s))))


def _train(
    run: Run, variant: VariantRecord, task: TrialTask
) -> tuple[tuple[TrialBranch, ...], str | None]:
    """Return the branches, and why there are none or not all."""
    run.progress.stage(f"{variant.name}: loss at batch {task.micro_batch_size}", left_s=run.left_s)
    workload = msgspec.structs.replace(
        task.workload, precision=variant.precision, compile=variant.compile
    )
    branches: list[TrialBranch] = []
    try:
        run.runner.run(
            msgspec.structs.replace(task, workload=workload),
            timeout_s=run.left_s,
            on_result=branches.append,
        )
    except AdvisorError as error:
        return tuple(branches), error.message
    reason = None if branches else f"batch {task.micro_batch_size} ran out of memory"
    return tuple(branches), reason
