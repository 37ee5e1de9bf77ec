"""What is asked of verify, what was seen of it, and what follows: the types."""

from typing import ClassVar, Literal

import msgspec

from advisor.engine.record import Slot
from advisor.engine.task import WorkloadTask
from advisor.figures import Count, Figure, Size
from advisor.rate.data import TrainedAt, TrialBranch, TrialTask
from advisor.statistics import Estimate


class VerifySpec(msgspec.Struct, frozen=True, kw_only=True):
    """One `bsadvisor verify`: the model file of a saved run, and how far to go."""

    target: str
    device: str = "auto"
    #: Orders of the data, from 0; None takes 3, and more where they are needed and time allows.
    seeds: int | None = None
    #: Of each branch; None lets the budget decide.
    samples: int | None = None
    #: Global batches; empty takes 1/4 to 4 times the recommended one.
    batches: tuple[int, ...] = ()
    budget_s: float = 120.0
    #: Train stored branches again.
    restart: bool = False
    #: File of saved weights from which the branches start; None trains to their start.
    checkpoint: str | None = None


class HeldOutEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Two mean losses in eval mode after `samples` training samples, each on fixed samples."""

    samples: Count
    train_loss: Figure
    held_out_loss: Figure


class VerificationBranch(TrialBranch, frozen=True, kw_only=True):
    """One branch: what a trial's has, and the held-out losses."""

    #: Empty where the model file has no `make_val_dataset`.
    held_out: tuple[HeldOutEvaluation, ...] = ()
    held_out_failure: str | None = None
    #: Largest eigenvalue of the Hessian at the end; None where not measured, or it diverged.
    sharpness: Figure | None = None
    sharpness_failure: str | None = None


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What fixes the state that branches start from, but for the pair and the steps."""

    #: Of the model file; of its name where the model is in a module.
    model_sha256: str
    #: Whose weights the branches start from; None where that is the end of the trunk.
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None


class VerificationRecord(Origin, frozen=True, kw_only=True):
    """All branches that were trained from one state, and what fixes that state."""

    #: Of the weights and of the trunk's data.
    seed: int
    device: str
    trunk_batch_size: Size
    trunk_learning_rate: Figure
    trunk_steps: Count
    #: That each branch was to consume.
    samples: Count
    evaluation_batch_size: Size
    recommended_batch_size: Size
    branches: tuple[VerificationBranch, ...] = ()
    #: Most steps at rate 0 that fill the optimizer's state at a checkpoint's weights.
    state_steps: Count = 0


BatchStanding = Literal["holds", "fails", "undecided", "diverged"]
CriticalBatchStatus = Literal["measured", "at_least", "at_most", "inconclusive"]
VerdictStatus = Literal["holds", "beaten", "inconclusive"]


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """Mean training loss over seeds after so many samples."""

    samples: int
    #: None where the step was not timed.
    time_s: float | None
    loss: Estimate


class VerifiedBatch(TrainedAt, frozen=True, kw_only=True):
    """One batch of the verification; no loss where a branch diverged."""

    seeds: int
    #: How many of the seeds diverged.
    diverged: int
    standing: BatchStanding
    end_loss: Estimate | None = None
    #: End loss over that of the best batch, paired by seed.
    excess: Estimate | None = None
    #: Of an optimizer step, from the run's timing; None where it has none.
    step_s: float | None = None
    #: When the batch that is done first is done.
    loss_at_equal_time: Estimate | None = None
    #: Until the lowest loss that any batch has then; None where a branch does not reach it.
    time_to_target_s: Estimate | None = None
    #: Held-out over training loss at the end, both in eval mode.
    generalisation_gap: Estimate | None = None
    sharpness: Estimate | None = None
    curve: tuple[CurvePoint, ...] = ()


class CriticalBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The largest batch whose loss at equal samples is within a margin of the best batch's.

    `at_least` where the largest batch tried still holds; `at_most` where only the smallest does, so
    that an even smaller one may be better yet; `inconclusive` where the noise over seeds is above
    the margin.
    """

    status: CriticalBatchStatus
    #: One sentence without its full stop.
    reason: str
    #: The largest that holds; None where inconclusive.
    batch_size: int | None = None
    #: The largest batch that holds beyond doubt; None where smaller ones may be better.
    low: int | None = None
    #: The smallest batch that fails beyond doubt; None where none does.
    high: int | None = None
    #: Of the lowest loss.
    best_batch_size: int | None = None
    #: Loss that counts as equal.
    margin: float | None = None
    #: That would end the doubt, where noise causes it.
    needed_seeds: int | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the recommended batch is as far as any other after equal training time."""

    status: VerdictStatus
    #: One sentence without its full stop.
    reason: str
    #: When the batch that is done first is done.
    equal_time_s: float | None = None
    #: The lowest mean loss that any batch has then.
    target_loss: float | None = None
    #: Loss above it that still counts as equal.
    margin: float | None = None
    #: The batch that has it.
    best_batch_size: int | None = None


class VerificationConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """What training showed."""

    recommended_batch_size: int
    #: At which the batches are compared.
    samples: int
    trunk_steps: int
    seeds: int
    critical_batch: CriticalBatch
    verdict: Verdict
    batches: tuple[VerifiedBatch, ...]
    #: Growth of the generalisation gap when the batch doubles; None without held-out data.
    gap_per_doubling: Estimate | None = None
    #: Growth of the sharpness when the batch doubles; None where too few branches have it.
    sharpness_per_doubling: Estimate | None = None
    #: None where all branches that converged have a sharpness.
    sharpness_failure: str | None = None
    #: File whose weights the branches start from; None where it is the trunk's end.
    from_checkpoint: str | None = None
    #: Plain sentences, each ending in what to do.
    warnings: tuple[str, ...] = ()


class VerificationTask(WorkloadTask[VerificationBranch], frozen=True, kw_only=True):
    """Train once to a common state, then branch off at several batches and rates."""

    runs: ClassVar[str] = "advisor.verify.measure:run"

    #: The training before the branches; its seed is the workload's.
    trunk: TrialTask
    #: Each with one seed, which fixes the order of its data.
    branches: tuple[TrialTask, ...]
    #: No further branch is started after this long.
    budget_s: float
    #: The trunk then fills the optimizer's state at rate 0, where the file does not hold it.
    checkpoint: str | None = None
    #: Of one micro-batch, the same for all branches; None where its memory will not suffice.
    sharpness_batch_size: int | None = None


VERIFICATION = Slot("verification", VerificationRecord)
