"""`verify`: branches from one state at several batches, to test a saved run's recommendation."""

import time
from collections.abc import Callable

from advisor.advice.data import Recommendation
from advisor.advice.plan import ADVICE
from advisor.engine.conclusions import Conclusions
from advisor.engine.ends import WorkerTimeoutError
from advisor.engine.opening import InspectTask
from advisor.engine.progress import Progress
from advisor.engine.record import Record
from advisor.engine.runner import COLD_START_S, Runner
from advisor.errors import UsageError
from advisor.training.data import WorkloadFacts, WorkloadSpec, parse_target
from advisor.verify.data import VERIFICATION, VerificationBranch, VerifySpec
from advisor.verify.start import find_origin
from advisor.verify.tasks import Plan

#: A branch that runs when the time is up may end within this.
_GRACE_S = 60.0


def run_verify(
    record: Record, spec: VerifySpec, *, progress: Progress, save: Callable[[Record], None]
) -> None:
    """Add to a saved run the branches that the time allows; `save` it after each, and at the end.

    Raises UsageError where the run has nothing to test or is of another model, InconclusiveError
    where the budget does not suffice for a branch worth training.
    """
    started = time.monotonic()
    conclusions = Conclusions(record)
    advice, facts = _require_advice(conclusions)
    target = parse_target(spec.target)
    origin = find_origin(target, record, spec, progress)
    workload = WorkloadSpec(
        target=spec.target,
        settings=record.command.settings,
        device=spec.device,
        precision=record.command.precision,
        compile=record.command.compile,
        seed=record.command.seed,
        base_batch_size=facts.base_batch_size,
    )
    with Runner(target) as runner:
        progress.stage("model file", left_s=spec.budget_s)
        (found,) = runner.run(
            InspectTask(workload=workload), timeout_s=COLD_START_S + spec.budget_s
        )
        _require_same(facts, found)
        plan = Plan(conclusions, advice, facts, spec, workload, progress, origin)

        def keep(branch: VerificationBranch) -> None:
            plan.add(branch)
            save(record.replacing(VERIFICATION, plan.verification))

        while _train(runner, plan, spec.budget_s - (time.monotonic() - started), keep, progress):
            if not plan.extend(spec.budget_s - (time.monotonic() - started)):
                break
    save(record.replacing(VERIFICATION, plan.verification))


def _train(
    runner: Runner,
    plan: Plan,
    left_s: float,
    keep: Callable[[VerificationBranch], None],
    progress: Progress,
) -> bool:
    """Train the pending branches in one worker, from one state; return whether all were."""
    pending = plan.list_pending()
    waiting, left_s = list(pending), max(left_s, 0.0)

    def show() -> None:
        if waiting:
            number, size = len(pending) - len(waiting) + 1, waiting[0].global_batch_size
            text = f"branch {number} of {len(pending)}: batch {size}, seed {waiting[0].seeds[0]}"
            progress.stage(text, left_s=left_s)

    def take(branch: VerificationBranch) -> None:
        del waiting[0]
        keep(branch)
        show()

    show()
    try:
        if pending:
            task = plan.make_task(pending, left_s)
            runner.run(task, timeout_s=left_s + _GRACE_S, on_result=take)
    except WorkerTimeoutError:
        progress.note("a branch took longer than the time left")
    if waiting:
        progress.note(
            f"{len(waiting)} of {len(pending)} branches were not trained in the time and memory "
            "there are; the same command goes on with them"
        )
    return not waiting


def _require_advice(conclusions: Conclusions) -> tuple[Recommendation, WorkloadFacts]:
    """Return what is to be tested; UsageError where there is none, or no rate that can be tried."""
    advice, facts = conclusions.of(ADVICE), conclusions.record.workload
    if advice is None or facts is None:
        raise UsageError(
            "the run has no recommendation to verify",
            next_step="Write a complete run with: bsadvisor probe MODEL --json FILE",
        )
    if not facts.has_dataset or facts.optimizer is None:
        raise UsageError(
            "the run has no training data, so nothing can be trained",
            next_step="Write make_dataset in the model file, and probe again.",
        )
    if advice.learning_rate.value is None:
        raise UsageError(
            f"the run advises no learning rate: {advice.learning_rate.reason}",
            next_step="Probe again once that is settled.",
        )
    return advice, facts


def _require_same(stored: WorkloadFacts, found: WorkloadFacts) -> None:
    """Raise UsageError where the model file is not the one that the run measured."""
    optimizers = (
        one and f"{one.name} at rate {one.learning_rate}"
        for one in (stored.optimizer, found.optimizer)
    )
    compared = {
        "parameters": (stored.parameter_count, found.parameter_count),
        "the optimizer": tuple(optimizers),
        "the samples of the dataset": (stored.dataset_size, found.dataset_size),
    }
    for what, (before, now) in compared.items():
        if before != now:
            raise UsageError(
                f"the run is of another model: {what}: {before} in the run, {now} in the file",
                next_step="Give the model file of this run, or probe this one.",
            )
