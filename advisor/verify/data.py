"""What is asked of verify, what was seen of it, and what follows: the types."""

from typing import Literal

import msgspec

from advisor.rate.data import TrialBranch, TrialTask
from advisor.statistics import Estimate
from advisor.training.data import WorkloadSpec


class VerifySpec(msgspec.Struct, frozen=True, kw_only=True):
    """One `bsadvisor verify`: the model file of a saved run, and how far to go.

    Attributes:
        target: `path.py`, `path.py:name`, or `package.module:name`, as typed.
        device: As in `WorkloadSpec`.
        seeds: Orders of the data, from 0; every batch is trained with each. None takes 3, and more
            where they are needed and time allows.
        samples: Samples of each branch; None lets the budget decide.
        batches: Global batches; empty takes 1/4, 1/2, 1, 2 and 4 times the recommended one.
        budget_s: Wall clock for the whole command.
        restart: Whether branches that are already stored are trained again.
        checkpoint: File of saved weights from which the branches start; None trains to their start.
    """

    target: str
    device: str = "auto"
    seeds: int | None = None
    samples: int | None = None
    batches: tuple[int, ...] = ()
    budget_s: float = 120.0
    restart: bool = False
    checkpoint: str | None = None


class VerificationTask(msgspec.Struct, frozen=True, kw_only=True, tag="verification"):
    """Train once to a common state, then branch off at several batches and rates.

    Attributes:
        trunk: The pair and the samples of the training before the branches; its seed is the
            workload's.
        branches: One for each branch, each with one seed, which fixes the order of its data.
        budget_s: No further branch is started after this long.
        checkpoint: File of saved weights to start from. The trunk then fills the optimizer's state
            at rate 0, where the file does not hold it.
        sharpness_batch_size: Samples of one micro-batch of the sharpness at the end, the same for
            all branches; None where its memory is not expected to suffice.
    """

    workload: WorkloadSpec
    trunk: TrialTask
    branches: tuple[TrialTask, ...]
    budget_s: float
    checkpoint: str | None = None
    sharpness_batch_size: int | None = None


class HeldOutEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Two mean losses in eval mode after `samples` training samples.

    Attributes:
        train_loss: On the fixed training samples.
        held_out_loss: On fixed samples of `make_val_dataset`.
    """

    samples: int
    train_loss: float
    held_out_loss: float


class VerificationBranch(TrialBranch, frozen=True, kw_only=True):
    """One branch: what a trial's has, and the held-out losses.

    Attributes:
        held_out: Empty where the model file has no `make_val_dataset`.
        held_out_failure: Why the model has no held-out loss although there is such data.
        sharpness: Largest eigenvalue of the Hessian at the end, of the mean training loss on the
            evaluation samples; None where it was not measured, and where the branch diverged.
        sharpness_failure: Why it was not measured; None where the branch diverged.
    """

    held_out: tuple[HeldOutEvaluation, ...] = ()
    held_out_failure: str | None = None
    sharpness: float | None = None
    sharpness_failure: str | None = None


class VerificationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All branches that were trained from one state, and what fixes that state.

    Attributes:
        model_sha256: Of the model file; of its name where the model is in a module.
        seed: Of the weights and of the trunk's data.
        device: As asked for.
        trunk_batch_size: Global batch of the training before the branches.
        trunk_learning_rate: Its rate.
        trunk_steps: Its optimizer steps.
        samples: Samples that each branch was to consume.
        evaluation_batch_size: Samples of one evaluation pass.
        recommended_batch_size: The batch whose recommendation is tested.
        branches: In the order they ran.
        checkpoint: File whose weights the branches start from, as typed; None where they start from
            the end of the trunk. It then has no steps.
        checkpoint_sha256: Of that file.
        state_steps: Most steps at rate 0 by which the optimizer's state was filled at those
            weights.
    """

    model_sha256: str
    seed: int
    device: str
    trunk_batch_size: int
    trunk_learning_rate: float
    trunk_steps: int
    samples: int
    evaluation_batch_size: int
    recommended_batch_size: int
    branches: tuple[VerificationBranch, ...] = ()
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None
    state_steps: int = 0


BatchStanding = Literal["holds", "fails", "undecided", "diverged"]


CriticalBatchStatus = Literal["measured", "at_least", "at_most", "inconclusive"]


VerdictStatus = Literal["holds", "beaten", "inconclusive"]


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """Mean training loss over seeds after so many samples.

    Attributes:
        time_s: Training time until then; None where the step was not timed.
    """

    samples: int
    time_s: float | None
    loss: Estimate


class VerifiedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch of the verification.

    Attributes:
        seeds: Branches behind the figures.
        diverged: How many of them diverged.
        standing: Whether its loss at equal samples is within the margin of the best batch's.
        end_loss: At the end, over seeds; None where a branch diverged.
        excess: Its end loss over that of the best batch, paired by seed.
        step_s: Seconds of an optimizer step, from the run's timing; None where it has none.
        loss_at_equal_time: When the batch that is done first is done.
        time_to_target_s: Until the lowest loss that any batch has at that time; None where a
            branch does not reach it.
        generalisation_gap: Held-out over training loss at the end, both in eval mode.
        sharpness: Largest eigenvalue of the Hessian at the end, over the seeds that have it; None
            where it was not measured or a branch diverged.
    """

    global_batch_size: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float
    seeds: int
    diverged: int
    standing: BatchStanding
    end_loss: Estimate | None = None
    excess: Estimate | None = None
    step_s: float | None = None
    loss_at_equal_time: Estimate | None = None
    time_to_target_s: Estimate | None = None
    generalisation_gap: Estimate | None = None
    sharpness: Estimate | None = None
    curve: tuple[CurvePoint, ...] = ()


class CriticalBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The largest batch whose loss at equal samples is within a margin of the best batch's.

    Attributes:
        status: `at_least` where the largest batch tried still holds; `at_most` where only the
            smallest does, so that an even smaller one may be better yet; `inconclusive` where the
            noise over seeds is above the margin.
        batch_size: The largest that holds; None where inconclusive.
        low: The largest batch that holds beyond doubt; None where smaller ones may be better.
        high: The smallest batch that fails beyond doubt; None where none does.
        best_batch_size: Of the lowest loss.
        margin: Loss that counts as equal.
        reason: One sentence without its full stop.
        needed_seeds: That would end the doubt, where noise causes it.
    """

    status: CriticalBatchStatus
    reason: str
    batch_size: int | None = None
    low: int | None = None
    high: int | None = None
    best_batch_size: int | None = None
    margin: float | None = None
    needed_seeds: int | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the recommended batch is as far as any other after equal training time.

    Attributes:
        reason: One sentence without its full stop.
        equal_time_s: When the batch that is done first is done.
        target_loss: The lowest mean loss that any batch has then.
        margin: Loss above it that still counts as equal.
        best_batch_size: The batch that has it.
    """

    status: VerdictStatus
    reason: str
    equal_time_s: float | None = None
    target_loss: float | None = None
    margin: float | None = None
    best_batch_size: int | None = None


class VerificationConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """What training showed.

    Attributes:
        samples: At which the batches are compared.
        trunk_steps: Steps of training before the branches.
        gap_per_doubling: How much the generalisation gap grows when the batch doubles; None
            without held-out data.
        sharpness_per_doubling: How much the sharpness at the end grows when the batch doubles; None
            where too few branches have it.
        sharpness_failure: Why branches have no sharpness; None where all that converged have it.
        from_checkpoint: File whose weights the branches start from; None where it is the trunk's
            end.
        warnings: Plain sentences, each ending in what to do.
    """

    recommended_batch_size: int
    samples: int
    trunk_steps: int
    seeds: int
    critical_batch: CriticalBatch
    verdict: Verdict
    batches: tuple[VerifiedBatch, ...]
    gap_per_doubling: Estimate | None = None
    sharpness_per_doubling: Estimate | None = None
    sharpness_failure: str | None = None
    from_checkpoint: str | None = None
    warnings: tuple[str, ...] = ()
