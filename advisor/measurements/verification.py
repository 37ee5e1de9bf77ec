"""Branches trained from one state to test a recommendation."""

import msgspec

from advisor.measurements.training import TrialBranch


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
