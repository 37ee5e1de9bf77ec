"""`verify`: branches from one state at several batches, to test a saved run's recommendation."""

import dataclasses
import hashlib
import time
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from advisor.advice.data import Recommendation
from advisor.advice.plan import ADVICE
from advisor.engine.ends import WorkerTimeoutError
from advisor.engine.question import Kind, Question
from advisor.engine.record import Conclusions, Record
from advisor.engine.run import Progress
from advisor.engine.runner import Runner
from advisor.engine.task import InspectTask
from advisor.errors import UsageError
from advisor.training.data import Target, WorkloadFacts, WorkloadSpec, parse_target
from advisor.verify.data import VERIFICATION, Origin, VerificationBranch, VerifySpec
from advisor.verify.plan import VERIFICATION_TOPIC
from advisor.verify.tasks import Plan
from advisor.verify.tell import (
    brief_verification,
    draw_up_screen,
    head_verification,
    tell_verification,
)

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
        (found,) = runner.run(InspectTask(workload=workload), timeout_s=spec.budget_s)
        _require_same(facts, found)
        plan = Plan(conclusions, advice, facts, spec, workload, progress, origin)

        def find_left_s() -> float:
            return spec.budget_s - (time.monotonic() - started)

        def keep(branch: VerificationBranch) -> None:
            plan.add(branch)
            save(record.replacing(VERIFICATION, plan.verification))

        while _train(runner, plan, max(find_left_s(), 0.0), keep, progress):
            if not plan.extend(find_left_s()):
                break
    save(record.replacing(VERIFICATION, plan.verification))


def find_origin(target: Target, record: Record, spec: VerifySpec, progress: Progress) -> Origin:
    """Return what the branches are to start from; a note says where the run's checkpoints wait."""
    name = target.text.encode() if target.path is None else Path(target.path).read_bytes()
    origin = Origin(model_sha256=hashlib.sha256(name).hexdigest(), checkpoint=spec.checkpoint)
    if spec.checkpoint is None:
        if record.command.limits.checkpoints:
            progress.note(
                "the noise was measured at checkpoints, the branches start from initialisation: "
                "--checkpoint FILE starts them from a checkpoint"
            )
        return origin
    try:
        with Path(spec.checkpoint).open("rb") as file:
            checkpoint_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(
            f"cannot read the checkpoint {spec.checkpoint}: {error.strerror}",
            next_step="Give the path of a state_dict file.",
        ) from None
    return replace(origin, checkpoint_sha256=checkpoint_sha256)


def _train(
    runner: Runner,
    plan: Plan,
    left_s: float,
    keep: Callable[[VerificationBranch], None],
    progress: Progress,
) -> bool:
    """Train the pending branches in one worker, from one state; return whether all were."""
    pending, done = plan.list_pending(), 0

    def take(branch: VerificationBranch | None) -> None:
        nonlocal done
        if branch is not None:
            done += 1
            keep(branch)
        for task in pending[done : done + 1]:
            text = f"branch {done + 1} of {len(pending)}: batch {task.global_batch_size}"
            progress.stage(f"{text}, seed {task.seeds[0]}", left_s=left_s)

    take(None)
    try:
        if pending:
            task = plan.make_task(pending, left_s)
            runner.run(task, timeout_s=left_s + _GRACE_S, on_result=take)
    except WorkerTimeoutError:
        progress.note("a branch took longer than the time left")
    if done < len(pending):
        progress.note(
            f"{len(pending) - done} of {len(pending)} branches were not trained in the time and "
            "memory there are; the same command goes on with them"
        )
    return done == len(pending)


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
    compared: dict[str, Callable[[WorkloadFacts], Any]] = {
        "parameters": attrgetter("parameter_count"),
        "the optimizer": lambda each: (
            each.optimizer and (f"{each.optimizer.name} at rate {each.optimizer.learning_rate}")
        ),
        "the samples of the dataset": attrgetter("dataset_size"),
    }
    for what, read in compared.items():
        if (before := read(stored)) != (now := read(found)):
            raise UsageError(
                f"the run is of another model: {what}: {before} in the run, {now} in the file",
                next_step="Give the model file of this run, or probe this one.",
            )


QUESTION = Question(
    name="verification",
    keys=(VERIFICATION,),
    topics=(VERIFICATION_TOPIC,),
    tell=tell_verification,
    brief=brief_verification,
)
#: A run as `verify` shows it: by what the branches say, without what it rests on.
VERIFIED = Kind(
    name="run",
    noun="verified run",
    command="verify",
    questions=(dataclasses.replace(QUESTION, brief=None),),
    headline=head_verification,
    screen=draw_up_screen,
    is_worth_telling=lambda *_: True,
)
