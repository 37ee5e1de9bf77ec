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


class Curvature(msgspec.Struct, frozen=True, kw_only=True):
    """The largest eigenvalue of the Hessian of the mean loss, over fixed samples.

    Attributes:
        at_step: Optimizer steps taken before.
        samples: Behind it; the same ones at every point.
        micro_batch_size: In which they entered, for the loss is one of batches.
        largest_eigenvalue: Of the Hessian H, in its sign; too low where it has not converged. None
            where it is not known.
        preconditioned_eigenvalue: Of P^½ H P^½ with P = 1/(sqrt(v̂)+ε) of an Adam-like optimizer, H
            that of the sum where the loss sums over its batch; None where the optimizer has no such
            state yet.
        products: Products of the Hessian with a vector behind both.
        converged: Whether the first moved by less than 1 % over the last two products.
        preconditioned_converged: Whether the second did.
        elapsed_s: Seconds of measuring.
        reason: Why a value is missing; None where none is.
    """

    at_step: int
    samples: int
    micro_batch_size: int
    largest_eigenvalue: float | None = None
    preconditioned_eigenvalue: float | None = None
    products: int = 0
    converged: bool = False
    preconditioned_converged: bool = False
    elapsed_s: float = 0.0
    reason: str | None = None


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
        training_batch_size: Samples of each optimizer step taken before; None at a checkpoint.
        weights: Tokens behind each mean gradient, where the loss averages over tokens; s_j then is
            the sum of weight·m_k. Empty where b_k are the weights.
        step_source: What `at_step` counts: steps of this trajectory or of the run that saved the
            checkpoint, its epochs, or the place of the checkpoint among those given.
        from_checkpoint: The file whose weights were measured.
        ended_because: Why the trajectory ended here, before its plan.
        curvature: At the same parameters; None where it was not measured.
    """

    at_step: int
    loss: float
    micro_batch_sizes: tuple[int, ...]
    groups: tuple[int, ...]
    plain: GradientMoments
    preconditioned: GradientMoments | None = None
    dropped: int = 0
    micro_batch_size: int | None = None
    training_batch_size: int | None = None
    weights: tuple[float, ...] = ()
    step_source: StepSource = "steps"
    from_checkpoint: str | None = None
    ended_because: str | None = None
    curvature: Curvature | None = None


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


class LrRangeCurve(msgspec.Struct, frozen=True, kw_only=True):
    """One training run in which the learning rate rose with every step.

    Attributes:
        global_batch_size: micro_batch_size × gradient_accumulation_steps.
        steps: Of the whole range, of which the curve may have fewer.
        seed: Of the start and the order of the data.
        rates: Rate of each step, in the first parameter group; ascending.
        losses: Training loss of the step's own batch before the step; the last is None where it was
            not finite.
        stopped_by: What ended the run: the end of the range, a loss that was not finite or rose far
            above its best, or the time.
    """

    micro_batch_size: int
    gradient_accumulation_steps: int
    global_batch_size: int
    steps: int
    seed: int
    rates: tuple[float, ...]
    losses: tuple[float | None, ...]
    stopped_by: Literal["range", "divergence", "budget"]
