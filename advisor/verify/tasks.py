"""What a verification trains: batches, rates, seeds and samples, and what of it is stored."""

import math
from collections.abc import Sequence

import msgspec

from advisor.advice.data import Recommendation
from advisor.derived import Derived
from advisor.engine.progress import Progress
from advisor.engine.run_record import RunRecord
from advisor.errors import InconclusiveError, UsageError
from advisor.memory.split import can_split, split_batch
from advisor.rate.data import TrialTask
from advisor.sharpness.sizes import find_room
from advisor.throughput.step_time import estimate_step_s, read_throughput
from advisor.training.data import WorkloadFacts, WorkloadSpec
from advisor.verify.branches import (
    LEAST_SEEDS,
    MORE_SEEDS,
    MOST_SEEDS,
    Pair,
    anchor_rate,
    choose_batches,
    choose_changes,
    choose_extension,
    choose_rate,
)
from advisor.verify.data import (
    CriticalBatchStatus,
    VerificationBranch,
    VerificationRecord,
    VerificationTask,
    VerifySpec,
)
from advisor.verify.plan import conclude_verification
from advisor.verify.start import Origin, count_steps, resume

#: Optimizer steps of the recommended batch that a branch aims at.
_STEPS = 100
#: Fewest steps of a batch worth training: fewer show the start of a branch and nothing else.
_LEAST_STEPS = 10
#: Evaluations along a branch.
_EVALUATIONS = 20
#: Samples of one evaluation pass where memory allows.
_EVALUATION_BATCH = 64
#: Share of the budget that the plan may fill, and time of a step over a timed one: loading the data
#: and evaluating come on top.
_BUDGET_FRACTION, _OVERHEAD = 0.85, 1.5
#: Rates closer than this, relatively, are the same: they were stored and read again.
_SAME = 1e-9


class Plan:
    """What is to be trained, and what of it the record holds already.

    Attributes:
        seeds: Orders of the data.
        pairs: Batches with their rates.
        verification: The branches so far: at first those stored, where they go with this plan.
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
        origin: Origin,
    ) -> None:
        self._derived, self._advice, self._facts = derived, advice, facts
        self._spec, self._workload, self._progress = spec, workload, progress
        base = anchor_rate(advice.learning_rate, advice.global_batch_size)
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
        step_s = _OVERHEAD * self._estimate_step_s(self._trunk)
        trunk_steps, state_steps = count_steps(record, origin, step_s, spec.budget_s)
        fresh = VerificationRecord(
            model_sha256=origin.model_sha256,
            checkpoint=origin.checkpoint,
            checkpoint_sha256=origin.checkpoint_sha256,
            state_steps=state_steps,
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
        self.verification = resume(record.verification, fresh, spec, progress)
        stored = [branch.seed + 1 for branch in self.verification.branches]
        self.seeds = spec.seeds or max(LEAST_SEEDS, *stored, 0)
        self.pairs = self._choose_pairs()

    def _choose_pairs(self) -> tuple[Pair, ...]:
        """Return the batches with their rates; sets the samples where they are still open."""
        facts, spec = self._facts, self._spec
        batches = set(choose_batches(self._advice, facts, spec.batches))
        if not spec.batches:  # those that an earlier command added
            batches |= {branch.global_batch_size for branch in self.verification.branches}
        pairs = [pair for size in sorted(batches) if (pair := self._make_pair(size)) is not None]
        if not self.verification.samples:
            samples = self._afford_samples(pairs)
            self.verification = msgspec.structs.replace(self.verification, samples=samples)
        samples, centre = self.verification.samples, self._advice.global_batch_size
        if samples < _LEAST_STEPS * centre:
            message = f"{samples} samples are fewer than {_LEAST_STEPS} steps of batch {centre}"
            if spec.samples is None:
                raise InconclusiveError(message, next_step="Raise --budget.")
            raise UsageError(message, next_step="Raise --branch-samples.")
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
        noise = self._derived.noise
        rate = choose_rate(
            optimizer,
            anchor_rate(self._advice.learning_rate, self._advice.global_batch_size),
            size,
            recommended=self._advice.global_batch_size,
            noise_scale=None if noise is None else noise.working,
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
        trunk_s = self._trunk_steps * self._estimate_step_s(self._trunk)
        left_s = _BUDGET_FRACTION * self._spec.budget_s - _OVERHEAD * trunk_s
        most = _STEPS * self._advice.global_batch_size
        if sample_s > 0.0:
            most = min(most, int(left_s / (_OVERHEAD * self.seeds * sample_s)))
        largest = max(pair.global_batch_size for pair in pairs)
        return max(0, most) if most < largest else most // largest * largest

    def _estimate_step_s(self, pair: Pair) -> float:
        step_s = estimate_step_s(
            read_throughput(self._derived.throughput),
            pair.micro_batch_size,
            pair.gradient_accumulation_steps,
            may_extrapolate=False,
        )
        return step_s or 0.0

    def list_pending(self) -> tuple[TrialTask, ...]:
        """Return the branches to train, seed by seed, so that an early end leaves whole seeds."""
        return tuple(task for task, _ in self._list_pending())

    def _list_pending(self) -> tuple[tuple[TrialTask, Pair], ...]:
        return tuple(
            (self._make_task(pair, seed=seed, samples=self.verification.samples), pair)
            for seed in range(self.seeds)
            for pair in self.pairs
            if not any(_is_of(branch, pair, seed) for branch in self.verification.branches)
        )

    def add(self, branch: VerificationBranch) -> None:
        """Append a branch."""
        self.verification = msgspec.structs.replace(
            self.verification, branches=(*self.verification.branches, branch)
        )

    def extend(self, left_s: float) -> bool:
        """Add what may close an open answer; return whether it fits into the time left.

        A further batch where an end is open, then more seeds where noise hides the answer; neither
        where the user said which.
        """
        found = conclude_verification(self.verification, self._derived.throughput)
        if found is None:
            return False
        status = found.critical_batch.status
        is_noisy = "inconclusive" in {status, found.verdict.status}
        if not self._add_batch(status) and not (is_noisy and self._add_seeds()):
            return False
        seconds = [
            task.samples * self._estimate_step_s(pair) / pair.global_batch_size
            for task, pair in self._list_pending()
        ]
        return _OVERHEAD * sum(seconds) <= left_s

    def _add_seeds(self) -> bool:
        if self._spec.seeds is not None or self.seeds >= MOST_SEEDS:
            return False
        self.seeds = min(MOST_SEEDS, self.seeds + MORE_SEEDS)
        return True

    def _add_batch(self, status: CriticalBatchStatus) -> bool:
        if self._spec.batches:
            return False
        sizes = [pair.global_batch_size for pair in self.pairs]
        facts, centre = self._facts, self._advice.global_batch_size
        size = choose_extension(status, sizes, smallest=facts.min_micro_batch_size, centre=centre)
        if size is None or self.verification.samples < _LEAST_STEPS * size:
            return False
        if facts.dataset_size is not None and size > facts.dataset_size:
            return False
        pair = self._make_pair(size)
        if pair is None:
            return False
        self.pairs = tuple(sorted((*self.pairs, pair), key=lambda each: each.global_batch_size))
        return True

    @property
    def _trunk_steps(self) -> int:
        """Optimizer steps before the branches: those of training, or those that fill a state."""
        return self.verification.trunk_steps + self.verification.state_steps

    def make_trunk(self) -> TrialTask:
        """Return the training before the branches."""
        samples = self._trunk_steps * self._trunk.global_batch_size
        return self._make_task(self._trunk, seed=0, samples=samples)

    def make_task(self, pending: tuple[TrialTask, ...], budget_s: float) -> VerificationTask:
        """Return the worker's task."""
        return VerificationTask(
            workload=self._workload,
            trunk=self.make_trunk(),
            branches=pending,
            budget_s=budget_s,
            checkpoint=self.verification.checkpoint,
            sharpness_batch_size=self._choose_sharpness_size(),
        )

    def _choose_sharpness_size(self) -> int | None:
        """Return the evaluation's micro-batch, or what is expected to fit differentiated twice.

        Not the branch's: it would change the matrix under BatchNorm.
        """
        room = find_room(self._facts, self._derived.memory)
        size = self.verification.evaluation_batch_size
        size = size if room is None else min(size, room)
        return size if size >= self._facts.min_micro_batch_size else None

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


def _is_of(branch: VerificationBranch, pair: Pair, seed: int) -> bool:
    return (
        branch.seed == seed
        and branch.micro_batch_size == pair.micro_batch_size
        and branch.gradient_accumulation_steps == pair.gradient_accumulation_steps
        and math.isclose(branch.learning_rate, pair.learning_rate, rel_tol=_SAME)
    )
