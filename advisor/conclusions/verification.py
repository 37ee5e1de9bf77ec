"""What branches trained from one state say of the recommendation."""

from typing import Literal

import msgspec

from advisor.statistics import Estimate

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
