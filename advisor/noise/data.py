"""What is asked of noise, what was seen of it, and what follows: the types."""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import msgspec

from advisor.engine.record import Series
from advisor.engine.task import WorkloadTask
from advisor.sharpness.data import Curvature
from advisor.statistics import Estimate
from advisor.training.data import TokenCount

#: Time to train, over the least, up to which a batch counts as good as the best: below that, φ and
#: the law of the samples are not known well enough to tell batches apart.
NEAR_OPTIMUM_FRACTION = 0.05
#: Times its lower end that a noise scale without an upper one is taken for at most: if it is no
#: more than that end, the batch is then too large by sqrt 2, which costs 3 % of time at most.
MOST_OVER_LOWER_END = 2.0


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


NoiseStatus = Literal["estimated", "lower_bound", "not_estimated"]


TrendDirection = Literal["rose", "fell", "flat", "unclear"]


class NoisePoint(msgspec.Struct, frozen=True, kw_only=True):
    """The noise scale at one point of the trajectory."""

    at_step: int
    loss: float | None
    samples: int
    noise_scale: Estimate
    preconditioned_noise_scale: Estimate | None
    gradient_sqnorm: float
    gradient_cov_trace: float


class NoiseTrend(msgspec.Struct, frozen=True, kw_only=True):
    """How the noise scale went along the run, by a line through its logarithm.

    Attributes:
        direction: `rose` and `fell` where the interval of the factor leaves out 1; `flat` where it
            lies within a factor of 1.6 of 1; else `unclear`.
        factor: Noise scale at the last point over that at the first, by the line.
        from_step: Step of the first point.
        to_step: Step of the last point.
    """

    direction: TrendDirection
    factor: Estimate
    from_step: int
    to_step: int


class NoiseConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The noise scale of the run.

    Attributes:
        status: `lower_bound` where the upper end is unknown.
        reason: One sentence.
        noise_scale: Step-average of tr Σ / |G|², in samples.
        preconditioned_noise_scale: The same in the optimizer's metric; None for plain SGD.
        gradient_sqnorm: |G|² at the last point.
        gradient_cov_trace: tr Σ at the last point.
        at_step: Step of the last point.
        micro_batch_size: Samples of each gradient behind the estimate.
        points: The trajectory.
        trend: How it went along the points, in the metric that the advice follows; None with fewer
            than two points of known ends.
        sample_unit: In what the user wants it told; the figures here are samples all the same.
        tokens_per_sample: Tokens that a sample counts for on average; None where unknown.
    """

    status: NoiseStatus
    reason: str
    noise_scale: Estimate | None = None
    preconditioned_noise_scale: Estimate | None = None
    gradient_sqnorm: float | None = None
    gradient_cov_trace: float | None = None
    at_step: int | None = None
    micro_batch_size: int | None = None
    points: tuple[NoisePoint, ...] = ()
    trend: NoiseTrend | None = None
    sample_unit: Literal["sample", "token"] = "sample"
    tokens_per_sample: float | None = None

    @property
    def decisive(self) -> Estimate | None:
        """The noise scale that the advice follows, in the optimizer's metric where there is one."""
        if self.status == "not_estimated":
            return None
        return self.preconditioned_noise_scale or self.noise_scale

    @property
    def working(self) -> float | None:
        """The one number to choose by, in samples."""
        return get_working_noise_scale(self.decisive)

    @property
    def course(self) -> tuple[tuple[int, Estimate], ...]:
        """Step and noise scale of each point, in the metric that the advice follows."""
        return choose_metric(self.points, adapted=self.preconditioned_noise_scale is not None)


def choose_metric(
    points: Sequence[NoisePoint], *, adapted: bool
) -> tuple[tuple[int, Estimate], ...]:
    """Return the steps and estimates of one metric, of the points that have it."""
    pairs = [
        (p.at_step, p.preconditioned_noise_scale if adapted else p.noise_scale) for p in points
    ]
    return tuple((step, scale) for step, scale in pairs if scale is not None)


def predict_relative_samples(global_batch_size: int, noise_scale: float) -> float:
    """Return the samples to train, over the fewest that training takes at any batch: 1 + B/φ.

    Args:
        global_batch_size: B, in samples.
        noise_scale: φ, in samples, above 0.

    Source: McCandlish et al. 2018, arXiv:1812.06162: E(B) = E_min·(1 + B/φ).
    """
    return 1.0 + global_batch_size / noise_scale


def get_working_noise_scale(noise: Estimate | None) -> float | None:
    """Return the noise scale to choose by: the point; where no upper end is known, a smaller one.

    Without an upper end the point rests on a gradient that may be zero and can be far too large,
    while the lower end is mostly too small. A batch costs as much too small by a factor as too
    large by it, so the geometric mean of both is taken, but no more than twice the lower end; the
    lower end alone where there is no point.
    """
    if noise is None:
        return None
    low = noise.low if noise.low is not None and noise.low > 0.0 else None
    point = noise.point if noise.point is not None and noise.point > 0.0 else None
    if noise.high is not None:
        return point
    if low is None or point is None:
        return low
    return min(math.sqrt(low * max(low, point)), MOST_OVER_LOWER_END * low)


class NoiseTask(WorkloadTask[NoiseBatches], frozen=True, kw_only=True):
    """Train with the user's optimizer and measure gradient moments at points along the way.

    Attributes:
        micro_batch_size: Samples of each gradient that is measured.
        training_micro_batch_size: Samples of one forward/backward of training; None for as many.
        gradient_accumulation_steps: Forward/backward passes for each step of training.
        steps: Optimizer steps of the trajectory.
        points: Steps (0 to `steps`) before which the moments are measured, ascending.
        groups: Jackknife groups.
        max_micro_batches: Most micro-batches taken at one point.
        loss_is_sum: Whether the loss sums over its batch; its gradients are then made means.
        budget_s: The worker ends the trajectory early when this is spent.
        token_count: How to count the tokens by which a micro-batch weighs; None where it weighs by
            its samples.
        checkpoints: Files of saved weights to measure at, in place of a trajectory.
        curvature_sizes: Least and most samples of one micro-batch whose gradient is differentiated
            again, in multiples of the least; None measures no curvature.
        host_memory_bytes: Of the host's memory that training may take; None where the device has
            its own.
    """

    runs: ClassVar[str] = "advisor.noise.measure:run"

    micro_batch_size: int
    steps: int
    points: tuple[int, ...]
    groups: int
    max_micro_batches: int
    budget_s: float
    training_micro_batch_size: int | None = None
    gradient_accumulation_steps: int = 1
    loss_is_sum: bool = False
    token_count: TokenCount | None = None
    checkpoints: tuple[str, ...] = ()
    curvature_sizes: tuple[int, int] | None = None
    host_memory_bytes: int | None = None


NOISE_BATCHES = Series("noise_batches", NoiseBatches)
NOISE_LOG = Series("noise_log", NoiseLogEntry)
