"""What the gradients say."""

from typing import Literal

import msgspec

from advisor.statistics import Estimate

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
        return self.preconditioned_noise_scale or self.noise_scale
