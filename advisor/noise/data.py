"""What is asked of noise, what was seen of it, and what follows: the types."""

import bisect
import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import msgspec

from advisor.engine.record import Series
from advisor.engine.task import WorkloadTask
from advisor.figures import Count, Figure, Size, Weight
from advisor.noise.share import Share
from advisor.statistics import Estimate
from advisor.training.data import StepSource, TokenCount
from advisor.units import NOT_MEASURED, format_interval, format_number

NoiseStatus = Literal["estimated", "lower_bound", "not_estimated"]
TrendDirection = Literal["rose", "fell", "flat", "unclear"]
#: What the noise of a real run's step was told from: the micro-batches of its accumulation, those
#: of its ranks before they exchange, or single examples in the normalisation layers.
Estimator = Literal["micro-batches", "ranks", "per-example"]

#: Time to train, over the least, up to which a batch counts as good as the best: below that, φ and
#: the law of the samples are not known well enough to tell batches apart.
NEAR_OPTIMUM_FRACTION = 0.05
#: Times its lower end that a noise scale without an upper one is taken for at most: if it is no
#: more than that end, the batch is then too large by sqrt 2, which costs 3 % of time at most.
MOST_OVER_LOWER_END = 2.0


class Trajectory(msgspec.Struct, frozen=True, kw_only=True):
    """A training that stops at points, or saved weights in its place."""

    micro_batch_size: int
    gradient_accumulation_steps: int = 1
    #: Optimizer steps taken before each point, ascending.
    points: tuple[int, ...] = ()
    #: Ends of the spans of steps for which the points stand, 0 first; none: each stands alone.
    edges: tuple[int, ...] = ()
    #: Files of saved weights.
    checkpoints: tuple[str, ...] = ()
    budget_s: float
    loss_is_sum: bool = False

    def label_span(self, point: int) -> dict[str, tuple[int, int]]:
        """Return the span of steps that a point stands for, as a field of `NoiseBatches`."""
        if not self.edges:
            return {}
        end = bisect.bisect_right(self.edges, point)
        return {"stands_for": (self.edges[end - 1], self.edges[end])}


class GradientMoments(msgspec.Struct, frozen=True, kw_only=True):
    """Squared norms and products of the sums of gradients, in one metric.

    With s_j the sum of b_k·m_k over the micro-batches of jackknife group j and s the sum of s_j.
    """

    #: |m_k|² for each mean gradient; none where each is that of a group, s_j/b_j.
    sqnorms: tuple[Figure, ...] = ()
    #: |s_j|² for each group.
    group_sqnorms: tuple[Figure, ...]
    #: <s_j, s> for each group.
    group_dots: tuple[Figure, ...]
    #: |s|².
    total_sqnorm: Figure


class NoiseBatches(msgspec.Struct, frozen=True, kw_only=True):
    """The raw pairs behind one noise estimate, taken at frozen parameters."""

    #: Steps of this trajectory or of the run that saved the checkpoint, its epochs, or the place of
    #: the checkpoint among those given, as `step_source` says.
    at_step: Count
    loss: Figure
    #: b_k, samples behind each mean gradient; micro-batches of a group that add up are one.
    micro_batch_sizes: tuple[Size, ...]
    #: Jackknife group of each mean gradient, from 0; none where each is that of a group.
    groups: tuple[Count, ...] = ()
    plain: GradientMoments
    #: In the metric 1/(sqrt(v̂)+ε) of an Adam-like optimizer; None where there is no v̂ yet.
    preconditioned: GradientMoments | None = None
    #: Gradients left out because they were not finite.
    dropped: Count = 0
    #: Whether the moments are those of sketches of the sums, since there was no room for the sums.
    is_sketched: bool = False
    #: Samples of each forward/backward.
    micro_batch_size: Size | None = None
    #: Samples of each optimizer step taken before; None at a checkpoint.
    training_batch_size: Size | None = None
    #: Tokens behind each mean gradient, where they and not b_k are the weights.
    weights: tuple[Weight, ...] = ()
    step_source: StepSource = "steps"
    from_checkpoint: str | None = None
    #: Steps [from, to) of the trajectory for which all that have them stand together.
    stands_for: tuple[Count, Count] | None = None

    def __post_init__(self) -> None:
        if self.stands_for is not None and self.stands_for[0] >= self.stands_for[1]:
            raise ValueError("`stands_for` is a span of no steps")
        gradients = len(self.micro_batch_sizes)
        for moments in filter(None, (self.plain, self.preconditioned)):
            groups = len(moments.group_sqnorms)
            is_whole = (
                len(moments.group_dots) == groups
                and len(moments.sqnorms) in {0, gradients}
                and len(self.weights) in {0, gradients}
                and (len(self.groups) == gradients if self.groups else groups == gradients)
                and all(group < groups for group in self.groups)
            )
            if not is_whole:
                raise ValueError("sizes, groups and moments are not of the same gradients")


class FreeMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What there is for the groups' sums."""

    #: Of the host that training may take; None where the device has its own memory.
    host_bytes: int | None = None
    #: Of a GPU beside a step.
    device_bytes: int = 0


class NoiseTask(WorkloadTask[NoiseBatches], frozen=True, kw_only=True):
    """Measure gradient moments at the points of a trajectory."""

    runs: ClassVar[str] = "advisor.noise.measure:run"
    runs_script: ClassVar[str] = "advisor.noise.measure_script:run"
    merges_ranks: ClassVar[str] = "advisor.noise.plan:merge_shards"
    trajectory: Trajectory
    #: Samples of each gradient that is measured.
    micro_batch_size: int
    #: Jackknife groups.
    groups: int
    #: Most of one point.
    max_micro_batches: int
    #: How to count the tokens by which a micro-batch weighs; None where its samples count.
    token_count: TokenCount | None = None
    memory: FreeMemory = FreeMemory()


class NoiseLogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What a real run saw of its gradients in one step, before clipping."""

    #: Optimizer steps taken before.
    at_step: Count
    #: n, of the step.
    samples: Weight
    #: K; for a pair of batch sizes their ratio.
    micro_batches: Weight
    #: Σ b_k·|m_k|²/n over the micro-batches; for a pair |m|² of the small one.
    micro_batch_sqnorm: Figure
    #: |Σ b_k·m_k/n|².
    mean_sqnorm: Figure
    loss: Figure | None = None


class NoisePoint(msgspec.Struct, frozen=True, kw_only=True):
    """The noise scale at one point of the trajectory."""

    at_step: int
    loss: float | None
    samples: int
    noise_scale: Estimate
    preconditioned_noise_scale: Estimate | None
    #: |G|² of the population, as it came out: it may be negative.
    gradient_sqnorm: float
    #: tr Σ.
    gradient_cov_trace: float
    #: The share of noise in a step of training, φ/(φ + B0), and in the optimizer's metric.
    noise_share: Share | None = None
    preconditioned_noise_share: Share | None = None
    #: Steps of the run that it stands for; None where the trapezoid rule says.
    span_steps: int | None = None


class NoiseTrend(msgspec.Struct, frozen=True, kw_only=True):
    """How the noise scale went along the run, by a line through its logarithm."""

    direction: TrendDirection
    #: Noise scale at the last point over that at the first, by the line.
    factor: Estimate
    from_step: int
    to_step: int


class NoiseConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The noise scale of the run, or the reason why there is none."""

    #: `lower_bound` where the upper end is unknown.
    status: NoiseStatus
    reason: str
    #: Average over the run of tr Σ / |G|², in samples.
    noise_scale: Estimate | None = None
    #: The same in the optimizer's metric; None for plain SGD.
    preconditioned_noise_scale: Estimate | None = None
    #: At the last point.
    gradient_sqnorm: float | None = None
    gradient_cov_trace: float | None = None
    at_step: int | None = None
    #: Samples of each gradient behind the estimate.
    micro_batch_size: int | None = None
    #: Samples of a step, whose share of noise was averaged.
    batch_size: int | None = None
    points: tuple[NoisePoint, ...] = ()
    #: In the metric that the advice follows; None with fewer than two points of known ends.
    trend: NoiseTrend | None = None
    #: In what the user wants it told; the figures here are samples all the same.
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

    Source: McCandlish et al. 2018, arXiv:1812.06162: E(B) = E_min·(1 + B/φ).
    """
    return 1.0 + global_batch_size / noise_scale


def get_working_noise_scale(noise: Estimate | None) -> float | None:
    """Return the noise scale to choose by: the point; where no upper end is known, a smaller one.

    The point can then be far too large, while the lower end is mostly too small.
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


def format_noise_scale(scale: Estimate | None) -> str:
    """Return `57 (31 to 120)`, `≥ 31` or `≤ 120`: as sampled it may be below 0, which none is."""
    if scale is None:
        return NOT_MEASURED
    point, low, high = scale.point or 0.0, max(scale.low or 0.0, 0.0), scale.high
    if high is None:
        return f"≥ {format_number(low)}" if low > 0.0 else "not known"
    if point <= 0.0:
        return f"≤ {format_number(max(high, 0.0))}"
    return format_interval(Estimate(point, low, high))


NOISE_BATCHES = Series("noise_batches", NoiseBatches)
NOISE_LOG = Series("noise_log", NoiseLogEntry)
