"""What a verification trains: batches, rates, seeds and samples, and what of it is stored."""

import math
from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from advisor.advice.data import Recommendation
from advisor.engine.budget import TRUNK_OF_BUDGET, VERIFY_OF_BUDGET
from advisor.engine.record import Conclusions, Record
from advisor.engine.run import Progress
from advisor.errors import InconclusiveError, UsageError
from advisor.memory.plan import MEMORY
from advisor.memory.split import can_split, split_batch
from advisor.noise.data import NOISE_BATCHES
from advisor.race.law import read_law
from advisor.rate.curves import is_same
from advisor.rate.data import OptimizerChanges, TrialTask
from advisor.sharpness.plan import find_room
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.step_time import estimate_step_s, read_throughput
from advisor.training.data import WorkloadFacts, WorkloadSpec
from advisor.verify.branches import (
    choose_batches,
    choose_changes,
    choose_extension,
    choose_rate,
    find_base,
)
from advisor.verify.data import (
    VERIFICATION,
    CriticalBatchStatus,
    Origin,
    VerificationBranch,
    VerificationRecord,
    VerificationTask,
    VerifySpec,
)
from advisor.verify.plan import conclude_verification

#: Optimizer steps of the recommended batch that a branch aims at.
_STEPS = 100
#: Fewest steps of a batch worth training: fewer show the start of a branch and nothing else.
_LEAST_STEPS = 10
#: Seeds of the first round, the most where the answer stays open, and how many each round adds.
_LEAST_SEEDS, _MOST_SEEDS, _MORE_SEEDS = 3, 10, 2
#: Evaluations along a branch.
_EVALUATIONS = 20
#: Samples of one evaluation pass where memory allows.
_EVALUATION_BATCH = 64
#: Time of a step over a timed one: loading the data and evaluating come on top.
_OVERHEAD = 1.5

#: Steps before the branches where the run followed no trajectory; else half of the trajectory's,
#: its middle, since the noise scale behind the advice is its average.
_TRUNK_STEPS = 100
#: Most steps at rate 0 that fill the optimizer's state at a checkpoint's weights: a mean of as many
#: squares is known to about sqrt(2/100) = 14 %, so Adam's step to 7 %.
_STATE_STEPS = 100


class Plan:
    """What is to be trained, and in `verification` what of it there is, at first as stored."""

    def __init__(
        self,
        conclusions: Conclusions,
        advice: Recommendation,
        facts: WorkloadFacts,
        spec: VerifySpec,
        workload: WorkloadSpec,
        progress: Progress,
        origin: Origin,
    ) -> None:
        self._conclusions, self._advice, self._facts = conclusions, advice, facts
        self._spec, self._workload, self._progress = spec, workload, progress
        base_size, base_rate = find_base(advice)
        evaluation_size = min(_EVALUATION_BATCH, advice.micro_batch_size)
        self._evaluation_size = max(facts.min_micro_batch_size, evaluation_size)
        trunk = self._make_task(base_size, base_rate, OptimizerChanges())
        if trunk is None:
            raise UsageError(
                f"the base batch {base_size} does not fit and cannot be split",
                next_step="Record a run with a base batch that fits.",
            )
        step_s = _OVERHEAD * self._estimate_s([trunk])
        trunk_steps, state_steps = count_steps(conclusions.record, origin, step_s, spec.budget_s)
        fresh = VerificationRecord(
            **msgspec.structs.asdict(origin),
            state_steps=state_steps,
            seed=workload.seed,
            device=workload.device,
            trunk_batch_size=base_size,
            trunk_learning_rate=base_rate,
            trunk_steps=trunk_steps,
            samples=spec.samples or 0,
            evaluation_batch_size=self._evaluation_size,
            recommended_batch_size=advice.global_batch_size,
        )
        self.verification = resume(conclusions.record.get(VERIFICATION), fresh, spec, progress)
        steps = self.verification.trunk_steps + self.verification.state_steps
        self._trunk = replace(trunk, samples=steps * trunk.samples)
        stored = [branch.seed + 1 for branch in self.verification.branches]
        self._seeds = spec.seeds or max(_LEAST_SEEDS, *stored, 0)
        self._pairs = self._choose_pairs()

    def _choose_pairs(self) -> list[TrialTask]:
        """Return a step of each batch; sets the samples of branches where they are still open."""
        spec, centre = self._spec, self._advice.global_batch_size
        batches = set(choose_batches(self._advice, self._facts, spec.batches))
        if not spec.batches:  # those that an earlier command added
            batches |= {branch.global_batch_size for branch in self.verification.branches}
        pairs = [pair for size in sorted(batches) if (pair := self._make_pair(size)) is not None]
        samples = self.verification.samples or self._afford_samples(pairs)
        self.verification = replace(self.verification, samples=samples)
        if samples < _LEAST_STEPS * centre:
            message = f"{samples} samples are fewer than {_LEAST_STEPS} steps of batch {centre}"
            if spec.samples is None:
                raise InconclusiveError(message, next_step="Raise --budget.")
            raise UsageError(message, next_step="Raise --branch-samples.")
        kept = [pair for pair in pairs if samples >= _LEAST_STEPS * pair.samples]
        for size in [pair.samples for pair in pairs if pair not in kept]:
            self._progress.note(f"batch {size} is left out: {samples} samples are too few steps")
        return kept

    def _make_pair(self, size: int) -> TrialTask | None:
        facts, advice, pair = self._facts, self._advice, None
        noise_scale = read_law(self._conclusions).noise_scale
        rate = choose_rate(facts, advice, size, noise_scale=noise_scale)
        if rate is not None and facts.optimizer is not None:
            changes = choose_changes(facts.optimizer, advice, size, rate)
            pair = self._make_task(size, rate, changes)
        if pair is None:
            self._progress.note(f"batch {size} is left out: it cannot be made of what fits")
        return pair

    def _make_task(self, size: int, rate: float, changes: OptimizerChanges) -> TrialTask | None:
        """Return one step of a batch; None where it cannot be made of what fits."""
        advice, facts = self._advice, self._facts
        split: tuple[int, int] | None = advice.split
        if size != advice.global_batch_size:
            timed = (each.micro_batch_size for each in advice.candidates)
            split = split_batch(
                size,
                largest=max(advice.micro_batch_size, *timed, 1),
                smallest=facts.min_micro_batch_size,
                preferred=advice.micro_batch_size,
                may_split=can_split(facts),
            )
        if split is None:
            return None
        return TrialTask(
            workload=self._workload,
            micro_batch_size=split[0],
            gradient_accumulation_steps=split[1],
            learning_rate=rate,
            samples=size,
            evaluations=_EVALUATIONS,
            seeds=(0,),
            evaluation_batch_size=self._evaluation_size,
            loss_is_sum=facts.loss_reduction == "sum",
            beta2=changes.beta2,
            weight_decay=changes.weight_decay,
        )

    def _afford_samples(self, pairs: Sequence[TrialTask]) -> int:
        """Return the samples of each branch that the budget allows, at most those aimed at."""
        sample_s = sum(self._estimate_s([pair]) / pair.samples for pair in pairs)
        trunk_s = _OVERHEAD * self._estimate_s([self._trunk])
        left_s = VERIFY_OF_BUDGET * self._spec.budget_s - trunk_s
        most = _STEPS * self._advice.global_batch_size
        if sample_s > 0.0:
            most = min(most, int(left_s / (_OVERHEAD * self._seeds * sample_s)))
        largest = max(pair.samples for pair in pairs)
        return max(0, most) if most < largest else most // largest * largest

    def _estimate_s(self, tasks: Iterable[TrialTask]) -> float:
        """Return the seconds of the tasks' steps as timed, those of unknown ones left out."""
        timing = read_throughput(self._conclusions.of(THROUGHPUT))
        return sum(
            task.samples
            / task.global_batch_size
            * (estimate_step_s(timing, *task.split, may_extrapolate=False) or 0.0)
            for task in tasks
        )

    def list_pending(self) -> tuple[TrialTask, ...]:
        """Return the branches to train, seed by seed, so that an early end leaves whole seeds."""
        stored = [(each.seed, each.split, each.key) for each in self.verification.branches]
        return tuple(
            replace(pair, seeds=(seed,), samples=self.verification.samples)
            for seed in range(self._seeds)
            for pair in self._pairs
            if not any(
                (seed, pair.split) == (other, split) and is_same(pair.key, key)
                for other, split, key in stored
            )
        )

    def add(self, branch: VerificationBranch) -> None:
        """Append a branch."""
        self.verification = replace(
            self.verification, branches=(*self.verification.branches, branch)
        )

    def extend(self, left_s: float) -> bool:
        """Add a batch where an end is open, or else seeds; return whether time is left for them."""
        found = conclude_verification(self.verification, self._conclusions.of(THROUGHPUT))
        if found is None:
            return False
        status = found.critical_batch.status
        is_noisy = "inconclusive" in {status, found.verdict.status}
        if not self._add_batch(status):
            more = min(_MOST_SEEDS, self._seeds + _MORE_SEEDS)
            if not is_noisy or self._spec.seeds is not None or more <= self._seeds:
                return False
            self._seeds = more
        return _OVERHEAD * self._estimate_s(self.list_pending()) <= left_s

    def _add_batch(self, status: CriticalBatchStatus) -> bool:
        facts, centre = self._facts, self._advice.global_batch_size
        sizes = [pair.samples for pair in self._pairs]
        size = choose_extension(status, sizes, smallest=facts.min_micro_batch_size, centre=centre)
        most = min(facts.dataset_size or math.inf, self.verification.samples / _LEAST_STEPS)
        if size is None or self._spec.batches or size > most:
            return False
        pair = self._make_pair(size)
        if pair is not None:
            self._pairs = sorted((*self._pairs, pair), key=lambda each: each.samples)
        return pair is not None

    def make_task(self, pending: tuple[TrialTask, ...], budget_s: float) -> VerificationTask:
        """Return the worker's task; under BatchNorm the sharpness must have one micro-batch."""
        room = find_room(self._facts, self._conclusions.of(MEMORY))
        size = self._evaluation_size if room is None else min(self._evaluation_size, room)
        return VerificationTask(
            workload=self._workload,
            trunk=self._trunk,
            branches=pending,
            budget_s=budget_s,
            checkpoint=self.verification.checkpoint,
            sharpness_batch_size=size if size >= self._facts.min_micro_batch_size else None,
        )


def count_steps(record: Record, origin: Origin, step_s: float, budget_s: float) -> tuple[int, int]:
    """Return the steps that train before the branches, and those that fill a state at rate 0.

    One of them is 0. The seconds of a step are of the base pair; 0 where unknown.
    """
    own = [each.at_step for each in record.all(NOISE_BATCHES) if each.from_checkpoint is None]
    wanted = max(own, default=2 * _TRUNK_STEPS) // 2 if origin.checkpoint is None else _STATE_STEPS
    steps = min(wanted, int(TRUNK_OF_BUDGET * budget_s / step_s)) if step_s > 0.0 else wanted
    return (steps, 0) if origin.checkpoint is None else (0, steps)


def resume(
    stored: VerificationRecord | None,
    fresh: VerificationRecord,
    spec: VerifySpec,
    progress: Progress,
) -> VerificationRecord:
    """Return what is stored where it goes with this plan, else the fresh record."""
    if stored is None or spec.restart:
        return fresh
    asked = replace(
        fresh,
        trunk_steps=stored.trunk_steps,
        state_steps=stored.state_steps,
        samples=spec.samples or stored.samples,
        branches=stored.branches,
    )
    if asked == stored:
        return stored
    progress.note("what is stored was trained otherwise, so every branch is trained anew")
    return fresh
