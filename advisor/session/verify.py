"""`verify`: branches from one state at several batches, to test a saved run's recommendation."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import msgspec

from advisor.analysis.equal_time import estimate_branch_step_s
from advisor.analysis.tradeoff import get_working_noise_scale
from advisor.conclusions import Derived, Recommendation
from advisor.errors import InconclusiveError, UsageError
from advisor.measurements import VerificationBranch, VerificationRecord, WorkloadFacts
from advisor.probe.progress import Progress
from advisor.probe.runner import Runner, WorkerTimeoutError
from advisor.recommend import derive
from advisor.recommend.decision import can_split
from advisor.record import RunRecord
from advisor.search.branches import (
    Pair,
    choose_batches,
    choose_changes,
    choose_rate,
    split_batch,
)
from advisor.spec import (
    InspectTask,
    TrialTask,
    VerificationTask,
    VerifySpec,
    WorkloadSpec,
    parse_target,
)

#: Importing torch on a cold disk is not the user's time to budget.
_START_S = 300.0
#: Optimizer steps of the recommended batch that a branch aims at.
_STEPS = 100
#: Fewest steps of a batch worth training: fewer show the start of a branch and nothing else.
_LEAST_STEPS = 10
#: Steps before the branches where the run followed no trajectory; else half of the trajectory's,
#: its middle, since the noise scale behind the advice is its average.
_TRUNK_STEPS = 100
#: Evaluations along a branch.
_EVALUATIONS = 20
#: Samples of one evaluation pass where memory allows.
_EVALUATION_BATCH = 64
#: Share of the budget that the plan may fill, and time of a step over a timed one: loading the data
#: and evaluating come on top.
_BUDGET_FRACTION, _OVERHEAD = 0.85, 1.5
#: A branch that runs when the time is up may end within this.
_GRACE_S = 60.0
#: Rates closer than this, relatively, are the same: they were stored and read again.
_SAME = 1e-9

Save = Callable[[RunRecord], None]


def run_verify(record: RunRecord, spec: VerifySpec, *, progress: Progress, save: Save) -> RunRecord:
    """Return the record with the branches added that the time allowed.

    Args:
        record: A saved run with a recommendation.
        spec: What is asked.
        progress: Told what runs.
        save: Called with the record after each branch.

    Raises:
        UsageError: The run has no recommendation to test, or is of another model.
        InconclusiveError: The budget does not suffice for a branch worth training.
    """
    started = time.monotonic()
    derived = derive(record)
    advice, facts = _require_advice(record, derived)
    target = parse_target(spec.target)
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
        (found,) = runner.run(InspectTask(workload=workload), timeout_s=_START_S + spec.budget_s)
        _require_same(facts, cast("WorkloadFacts", found))
        plan = _Plan(record, derived, advice, facts, spec, workload, progress)
        session = _Session(record, plan.verification, save)
        pending = plan.list_pending()
        left_s = spec.budget_s - (time.monotonic() - started)
        if pending:
            _train(runner, plan, session, pending, left_s, progress)
        else:
            session.keep()
        return session.record


class _Session:
    """The record as it grows."""

    def __init__(self, record: RunRecord, verification: VerificationRecord, save: Save) -> None:
        self.record = record
        self._verification = verification
        self._save = save

    def add(self, branch: VerificationBranch) -> None:
        """Append a branch and save."""
        self._verification = msgspec.structs.replace(
            self._verification, branches=(*self._verification.branches, branch)
        )
        self.keep()

    def keep(self) -> None:
        """Save the branches as they are."""
        self.record = msgspec.structs.replace(self.record, verification=self._verification)
        self._save(self.record)


class _Plan:
    """What is to be trained, and what of it the record holds already.

    Attributes:
        verification: The stored branches where they go with this plan, else an empty record.
    """

    def __init__(
        self,
        record: RunRecord,
        derived: Derived,
        advice: Recommendation,
        facts: WorkloadFacts,
        spec: VerifySpec,
        workload: WorkloadSpec,
        progress: Progress,
    ) -> None:
        self._derived, self._advice, self._facts = derived, advice, facts
        self._spec, self._workload, self._progress = spec, workload, progress
        base = advice.learning_rate
        assert base.base_value is not None
        assert base.base_batch_size is not None
        trunk = self._split(base.base_batch_size)
        if trunk is None:
            raise UsageError(
                f"the base batch {base.base_batch_size} does not fit and cannot be split",
                next_step="Record a run with a base batch that fits.",
            )
        self._trunk = Pair(
            micro_batch_size=trunk[0],
            gradient_accumulation_steps=trunk[1],
            learning_rate=base.base_value,
        )
        points = record.noise_batches
        trunk_steps = max((each.at_step for each in points), default=2 * _TRUNK_STEPS) // 2
        fresh = VerificationRecord(
            model_sha256=hash_model(workload.target),
            seed=workload.seed,
            device=workload.device,
            trunk_batch_size=base.base_batch_size,
            trunk_learning_rate=base.base_value,
            trunk_steps=trunk_steps,
            samples=spec.samples or 0,
            evaluation_batch_size=max(
                facts.min_micro_batch_size, min(_EVALUATION_BATCH, advice.micro_batch_size)
            ),
            recommended_batch_size=advice.global_batch_size,
        )
        self.verification = self._resume(record.verification, fresh)
        self.pairs = self._choose_pairs()

    def _resume(
        self, stored: VerificationRecord | None, fresh: VerificationRecord
    ) -> VerificationRecord:
        """Return what is stored where it goes with this plan, else a fresh record."""
        if stored is None or self._spec.restart:
            return fresh
        asked = msgspec.structs.replace(
            fresh, samples=self._spec.samples or stored.samples, branches=stored.branches
        )
        if asked == stored:
            return stored
        self._progress.note("what is stored was trained otherwise, so every branch is trained anew")
        return fresh

    def _choose_pairs(self) -> tuple[Pair, ...]:
        """Return the batches with their rates; sets the samples where they are still open."""
        facts, spec = self._facts, self._spec
        batches = choose_batches(self._advice, facts, spec.batches)
        pairs = [pair for size in batches if (pair := self._make_pair(size)) is not None]
        if not self.verification.samples:
            samples = self._afford_samples(pairs)
            self.verification = msgspec.structs.replace(self.verification, samples=samples)
        samples, centre = self.verification.samples, self._advice.global_batch_size
        if samples < _LEAST_STEPS * centre:
            message = f"{samples} samples are fewer than {_LEAST_STEPS} steps of batch {centre}"
            if spec.samples is None:
                raise InconclusiveError(message, next_step="Raise --budget.")
            raise UsageError(message, next_step="Raise --samples.")
        long_enough = [pair for pair in pairs if samples >= _LEAST_STEPS * pair.global_batch_size]
        for pair in pairs[len(long_enough) :]:
            self._progress.note(
                f"batch {pair.global_batch_size} is left out: {samples} samples are too few steps"
            )
        return tuple(long_enough)

    def _make_pair(self, size: int) -> Pair | None:
        optimizer = self._facts.optimizer
        assert optimizer is not None
        split = self._split(size)
        noise = self._derived.noise.decisive if self._derived.noise is not None else None
        rate = choose_rate(
            optimizer,
            self._advice.learning_rate,
            size,
            recommended=self._advice.global_batch_size,
            noise_scale=get_working_noise_scale(noise),
            loss_is_sum=self._facts.loss_reduction == "sum",
        )
        if split is None or rate is None:
            self._progress.note(f"batch {size} is left out: it cannot be made of what fits")
            return None
        return Pair(
            micro_batch_size=split[0],
            gradient_accumulation_steps=split[1],
            learning_rate=rate,
            changes=choose_changes(optimizer, self._advice, size, rate),
        )

    def _split(self, size: int) -> tuple[int, int] | None:
        advice, facts = self._advice, self._facts
        if size == advice.global_batch_size:
            return advice.micro_batch_size, advice.gradient_accumulation_steps
        timed = (each.micro_batch_size for each in advice.candidates)
        return split_batch(
            size,
            largest=max(advice.micro_batch_size, *timed, 1),
            smallest=facts.min_micro_batch_size,
            preferred=advice.micro_batch_size,
            may_split=can_split(facts),
        )

    def _afford_samples(self, pairs: Sequence[Pair]) -> int:
        """Return the samples of each branch that the budget allows, at most those aimed at."""
        sample_s = sum(self._estimate_step_s(pair) / pair.global_batch_size for pair in pairs)
        trunk_s = self.verification.trunk_steps * self._estimate_step_s(self._trunk)
        left_s = _BUDGET_FRACTION * self._spec.budget_s - _OVERHEAD * trunk_s
        most = _STEPS * self._advice.global_batch_size
        if sample_s > 0.0:
            most = min(most, int(left_s / (_OVERHEAD * self._spec.seeds * sample_s)))
        largest = max(pair.global_batch_size for pair in pairs)
        return max(0, most) if most < largest else most // largest * largest

    def _estimate_step_s(self, pair: Pair) -> float:
        step_s = estimate_branch_step_s(
            self._derived.throughput, pair.micro_batch_size, pair.gradient_accumulation_steps
        )
        return step_s or 0.0

    def list_pending(self) -> tuple[TrialTask, ...]:
        """Return the branches to train, seed by seed, so that an early end leaves whole seeds."""
        return tuple(
            self._make_task(pair, seed=seed, samples=self.verification.samples)
            for seed in range(self._spec.seeds)
            for pair in self.pairs
            if not any(_is_of(branch, pair, seed) for branch in self.verification.branches)
        )

    def make_trunk(self) -> TrialTask:
        """Return the training before the branches."""
        samples = self.verification.trunk_steps * self._trunk.global_batch_size
        return self._make_task(self._trunk, seed=0, samples=samples)

    def make_task(self, pending: tuple[TrialTask, ...], budget_s: float) -> VerificationTask:
        """Return the worker's task."""
        return VerificationTask(
            workload=self._workload, trunk=self.make_trunk(), branches=pending, budget_s=budget_s
        )

    def _make_task(self, pair: Pair, *, seed: int, samples: int) -> TrialTask:
        return TrialTask(
            workload=self._workload,
            micro_batch_size=pair.micro_batch_size,
            gradient_accumulation_steps=pair.gradient_accumulation_steps,
            learning_rate=pair.learning_rate,
            samples=samples,
            evaluations=_EVALUATIONS,
            seeds=(seed,),
            evaluation_batch_size=self.verification.evaluation_batch_size,
            loss_is_sum=self._facts.loss_reduction == "sum",
            beta2=pair.changes.beta2,
            weight_decay=pair.changes.weight_decay,
        )


def _train(
    runner: Runner,
    plan: _Plan,
    session: _Session,
    pending: tuple[TrialTask, ...],
    left_s: float,
    progress: Progress,
) -> None:
    """Train the pending branches in one worker, from one state; keep each as it comes."""
    done = 0

    def show() -> None:
        if done < len(pending):
            task = pending[done]
            size = task.micro_batch_size * task.gradient_accumulation_steps
            text = f"branch {done + 1} of {len(pending)}: batch {size}, seed {task.seeds[0]}"
            progress.stage(text, left_s=left_s)

    def keep(branch: msgspec.Struct) -> None:
        nonlocal done
        done += 1
        session.add(cast("VerificationBranch", branch))
        show()

    show()
    try:
        task = plan.make_task(pending, max(left_s, 0.0))
        runner.run(task, timeout_s=max(left_s, 0.0) + _GRACE_S, on_result=keep)
    except WorkerTimeoutError:
        progress.note("a branch took longer than the time left")
    if done < len(pending):
        progress.note(
            f"{len(pending) - done} of {len(pending)} branches were not trained in the time and "
            "memory there are; the same command goes on with them"
        )


def hash_model(target: str) -> str:
    """Return the SHA-256 of the model file, or of the name of a module."""
    path = parse_target(target).path
    content = target.encode() if path is None else Path(path).read_bytes()
    return hashlib.sha256(content).hexdigest()


def _is_of(branch: VerificationBranch, pair: Pair, seed: int) -> bool:
    return (
        branch.seed == seed
        and branch.micro_batch_size == pair.micro_batch_size
        and branch.gradient_accumulation_steps == pair.gradient_accumulation_steps
        and math.isclose(branch.learning_rate, pair.learning_rate, rel_tol=_SAME)
    )


def _require_advice(record: RunRecord, derived: Derived) -> tuple[Recommendation, WorkloadFacts]:
    """Return what is to be tested.

    Raises:
        UsageError: The run has no recommendation, or none whose rate can be trained.
    """
    advice, facts = derived.recommendation, record.workload
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
    compared = {
        "parameters": (stored.parameter_count, found.parameter_count),
        "the optimizer": (_name_optimizer(stored), _name_optimizer(found)),
        "the samples of the dataset": (stored.dataset_size, found.dataset_size),
    }
    for what, (before, now) in compared.items():
        if before != now:
            raise UsageError(
                f"the run is of another model: {what}: {before} in the run, {now} in the file",
                next_step="Give the model file of this run, or probe this one.",
            )


def _name_optimizer(facts: WorkloadFacts) -> str | None:
    optimizer = facts.optimizer
    if optimizer is None:
        return None
    return f"{optimizer.name} at rate {optimizer.learning_rate}"
