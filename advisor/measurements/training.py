"""Gradients and losses of training."""

from typing import Literal

import msgspec


class GradientMoments(msgspec.Struct, frozen=True, kw_only=True):
    """Squared norms and products of the mean gradients m_k of micro-batches, in one metric.

    With s_j the sum of b_k·m_k over the micro-batches of jackknife group j and s the sum of s_j.

    Attributes:
        sqnorms: |m_k|² for each micro-batch.
        group_sqnorms: |s_j|² for each group.
        group_dots: <s_j, s> for each group.
        total_sqnorm: |s|².
    """

    sqnorms: tuple[float, ...]
    group_sqnorms: tuple[float, ...]
    group_dots: tuple[float, ...]
    total_sqnorm: float


StepSource = Literal["steps", "epochs", "order"]


class NoiseBatches(msgspec.Struct, frozen=True, kw_only=True):
    """The raw pairs behind one noise estimate, taken at frozen parameters.

    Attributes:
        at_step: Optimizer steps taken before.
        loss: Mean loss over the micro-batches.
        micro_batch_sizes: b_k, samples behind each mean gradient; where a group's micro-batches add
            up in place, the group is one such gradient.
        groups: Jackknife group of each mean gradient, from 0.
        plain: Moments in the Euclidean metric.
        preconditioned: Moments in the metric 1/(sqrt(v̂)+ε) of an Adam-like optimizer; None where
            the optimizer has no such state yet.
        dropped: Gradients left out because they were not finite.
        micro_batch_size: Samples of each forward/backward behind the gradients.
        weights: Tokens behind each mean gradient, where the loss averages over tokens; s_j then is
            the sum of weight·m_k. Empty where b_k are the weights.
        step_source: What `at_step` counts: steps of this trajectory or of the run that saved the
            checkpoint, its epochs, or the place of the checkpoint among those given.
        from_checkpoint: The file whose weights were measured.
        ended_because: Why the trajectory ended here, before its plan.
    """

    at_step: int
    loss: float
    micro_batch_sizes: tuple[int, ...]
    groups: tuple[int, ...]
    plain: GradientMoments
    preconditioned: GradientMoments | None = None
    dropped: int = 0
    micro_batch_size: int | None = None
    weights: tuple[float, ...] = ()
    step_source: StepSource = "steps"
    from_checkpoint: str | None = None
    ended_because: str | None = None


class NoiseLogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What a real run saw of its gradients in one step, before clipping.

    Attributes:
        at_step: Optimizer steps taken before.
        samples: n, samples of the step.
        micro_batches: K; for a pair of batch sizes their ratio.
        micro_batch_sqnorm: Σ b_k·|m_k|²/n over the micro-batches; for a pair |m|² of the small one.
        mean_sqnorm: |Σ b_k·m_k/n|².
        loss: Of the step, where it was noted.
    """

    at_step: int
    samples: float
    micro_batches: float
    micro_batch_sqnorm: float
    mean_sqnorm: float
    loss: float | None = None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Mean loss on the fixed evaluation samples after `samples` training samples."""

    samples: int
    loss: float


class TrialBranch(msgspec.Struct, frozen=True, kw_only=True):
    """One short training run at one batch and rate.

    Attributes:
        global_batch_size: micro_batch_size × gradient_accumulation_steps.
        evaluations: Losses along the branch, the first before training; ends early on divergence.
        diverged: Whether a loss was not finite.
    """

    micro_batch_size: int
    gradient_accumulation_steps: int
    global_batch_size: int
    learning_rate: float
    seed: int
    samples: int
    evaluations: tuple[Evaluation, ...]
    diverged: bool
    beta2: float | None = None
    weight_decay: float | None = None
    lr_warmup_steps: int = 0
