"""The variants stage: other precisions, compiled or not, measured as the run itself was.

Their losses are those after the same steps: same starts, same samples, same rate.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import asdict, replace

from advisor.advice.plan import ADVICE
from advisor.engine.budget import (
    LOSSES_OF_VARIANTS,
    NEEDS,
    TIME_PLAN,
    VARIANT_OF_BUDGET,
    VARIANTS_OF_BUDGET,
    estimate_needs,
)
from advisor.engine.ends import WorkerTimeoutError
from advisor.engine.question import Question
from advisor.engine.record import open_record
from advisor.engine.run import Progress, Run
from advisor.errors import AdvisorError
from advisor.memory.data import PROBES
from advisor.memory.stage import run_memory
from advisor.race.plan import find_obstacle
from advisor.rate.data import TrialBranch, TrialTask
from advisor.rate.range_stage import choose_evaluation_batch
from advisor.throughput.stage import run_throughput
from advisor.throughput.step_time import estimate_compile_s, estimate_step_s, read_probes
from advisor.training.data import Variant
from advisor.variants.data import VARIANTS, VariantRecord, copy_stages
from advisor.variants.plan import VARIANTS_TOPIC, find_unavailable
from advisor.variants.tell import tell_variants

#: Starts from which each variant trains.
_SEEDS = (0, 1, 2)
#: Optimizer steps where time allows, and the least worth comparing.
_STEPS, _LEAST_STEPS = 100, 20
#: Evaluations along a branch; the last three make its end.
_EVALUATIONS = 10
#: Time of a step here over a timed one: data loading and evaluation come on top.
_OVERHEAD = 1.5
#: Graphs that a branch compiles: training and evaluation, whose batches differ in size.
_GRAPHS = 2


def list_variants(variants: Sequence[Variant]) -> tuple[VariantRecord, ...]:
    """Return what the record has of them from the start; nothing of the run's own alone."""
    if len(variants) < 2:
        return ()
    late = "the run ended before it"
    own, *others = (VariantRecord(**asdict(each)) for each in variants)
    return own, *(replace(each, missing_because=late) for each in others)


def reserve_time(run: Run) -> None:
    """Set time aside for the variants that can run."""
    promised = VARIANT_OF_BUDGET * _list_obstacles(run).count(None)
    run.reserved_fraction = min(VARIANTS_OF_BUDGET, promised)


def run_variants(run: Run) -> None:
    """Measure memory and speed of each further variant, then the loss of all of them.

    A variant that fails is a row with its reason; it does not end the run.
    """
    if not run.record.all(VARIANTS):
        return
    run.reserved_fraction = 0.0
    kept_s = LOSSES_OF_VARIANTS * run.left_s if run.facts.has_dataset else 0.0
    obstacles = _list_obstacles(run)
    waiting = obstacles.count(None)
    for index, reason in enumerate(obstacles, start=1):
        if reason is None and not run.is_spent and run.left_s > kept_s:
            _measure(run, index, budget_s=(run.left_s - kept_s) / waiting)
            waiting -= 1
        else:
            late = "no time was left for it; raise --budget"
            _keep(run, index, missing_because=reason or late)
    _run_losses(run)


def _keep(run: Run, index: int, **changes: Any) -> None:
    """Put changes of a variant into its place in the record."""
    variants = list(run.record.all(VARIANTS))
    variants[index] = replace(variants[index], **changes)
    run.replace(VARIANTS, tuple(variants))


def _list_obstacles(run: Run) -> list[str | None]:
    """Return for each further variant why it cannot run; None where it can."""
    further = run.record.all(VARIANTS)[1:]
    return [find_unavailable(each, run.environment, run.facts) for each in further]


def _measure(run: Run, index: int, *, budget_s: float) -> None:
    _keep(run, index, missing_because=None)
    started, reason, variant = time.monotonic(), None, run.record.all(VARIANTS)[index]
    changes = {"precision": variant.precision, "compile": variant.compile}
    workload, limits = replace(run.spec.workload, **changes), run.spec.limits
    spec = replace(run.spec, workload=workload, limits=replace(limits, budget_s=budget_s))
    progress = _Labelled(run.progress, variant.name)
    own = run.record
    part = Run(
        spec,
        record=open_record(type(own), spec, kind=own.kind, argv=own.command.argv),
        runner=run.runner,
        progress=progress,
        save=lambda seen: _keep(run, index, **copy_stages(seen.record)),
    )
    part.start_s = run.start_s
    plan, others = own.get(TIME_PLAN), NEEDS.keys() - {"memory", "throughput"}
    part.needs = estimate_needs(run.start_s, plan.step_s if plan else 0.0, without=others)
    try:
        part.keep_environment(run.environment)
        # Every sweep times its base, which here is the advised size.
        advice = run.of(ADVICE)
        size = run.facts.base_batch_size if advice is None else advice.micro_batch_size
        part.keep_workload(replace(run.facts, base_batch_size=size))
        run_memory(part)
        run_throughput(part)
    except AdvisorError as error:
        reason = error.message + "; raise --budget" * isinstance(error, WorkerTimeoutError)
    if reason is None and not any(probe.stage == "throughput" for probe in part.record.all(PROBES)):
        reason = progress.last_note or "no size was timed"
    elapsed_s, seen = time.monotonic() - started, copy_stages(part.record)
    _keep(run, index, missing_because=reason, elapsed_s=elapsed_s, **seen)


class _Labelled(Progress):
    """Progress with the variant's name in front, which keeps what was noted last."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress, self._label = progress, label
        self.last_note: str | None = None

    def stage(self, name: str, *, left_s: float | None) -> None:
        """Begin a stage."""
        self._progress.stage(f"{self._label}: {name}", left_s=left_s)

    def plan(self, text: str) -> None:
        """Tell the plan."""
        self._progress.plan(f"{self._label}: {text}")

    def note(self, text: str) -> None:
        """Tell one thing that happened."""
        self.last_note = text
        self._progress.note(f"{self._label}: {text}")


def _run_losses(run: Run) -> None:
    """Train each variant that runs for the same steps, or say for each why it was not."""
    sizes = [each.max_micro_batch_size for each in run.of(VARIANTS_TOPIC) or ()]
    fitting = {index: size for index, size in enumerate(sizes) if size is not None}
    obstacle, _ = find_obstacle(run.facts)
    task = None if obstacle else _make_task(run, fitting)
    for index, variant in enumerate(run.record.all(VARIANTS)):
        losses: list[TrialBranch] = []
        reason = obstacle or (None if index in fitting else "no size of it ran")
        if reason is None and (task is None or run.is_spent):
            reason = f"no time was left for {_LEAST_STEPS} steps; raise --budget"
        elif reason is None and task is not None:
            reason = _train(run, variant, task, losses)
        _keep(run, index, losses=tuple(losses), loss_missing_because=reason)


def _make_task(run: Run, fitting: Mapping[int, int]) -> TrialTask | None:
    """Return what every variant runs but for its precision; None where time does not suffice."""
    advice, optimizer = run.of(ADVICE), run.facts.optimizer
    assert optimizer is not None
    assert optimizer.learning_rate is not None
    largest = min(fitting.values(), default=0)
    wanted = run.facts.base_batch_size or (advice.micro_batch_size if advice is not None else None)
    size, budget_s = min(wanted or largest, largest), run.left_s / max(1, len(fitting))
    probes = [run.record.all(PROBES), *(each.probes for each in run.record.all(VARIANTS)[1:])]
    steps = _STEPS
    for own in (probes[index] for index in fitting or (0,)):
        step_s = estimate_step_s(read_probes(own), size)
        steps_s = budget_s - _GRAPHS * len(_SEEDS) * estimate_compile_s(own)
        steps = min(steps, int(steps_s / (_OVERHEAD * len(_SEEDS) * step_s)) if step_s else 0)
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
        evaluation_batch_size=choose_evaluation_batch(run, largest),
        loss_is_sum=run.facts.loss_reduction == "sum",
        budget_s=budget_s,
    )


def _train(
    run: Run, variant: VariantRecord, task: TrialTask, losses: list[TrialBranch]
) -> str | None:
    """Add the branches to the losses, and return why there are none or not all."""
    run.progress.stage(f"{variant.name}: loss at batch {task.micro_batch_size}", left_s=run.left_s)
    workload = replace(task.workload, precision=variant.precision, compile=variant.compile)
    own = replace(task, workload=workload)
    try:
        run.runner.run(own, timeout_s=run.left_s, on_result=losses.append)
    except AdvisorError as error:
        return error.message
    return None if losses else f"batch {task.micro_batch_size} ran out of memory"


QUESTION = Question(
    name="variants",
    keys=(VARIANTS,),
    topics=(VARIANTS_TOPIC,),
    check=reserve_time,
    run=run_variants,
    tell=tell_variants,
    fails_alone=True,
)
