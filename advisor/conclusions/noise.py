"""What the gradients say."""

from typing import Literal

import msgspec

from advisor.statistics import Estimate

NoiseStatus = Literal["estimated", "lower_bound", "not_estimated"]


class NoisePoint(msgspec.Struct, frozen=True, kw_only=True):
    """The noise scale at one point of the trajectory."""

    at_step: int
    loss: float
    samples: int
    noise_scale: Estimate
    preconditioned_noise_scale: Estimate | None
    gradient_sqnorm: float
    gradient_cov_trace: float


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

    @property
    def decisive(self) -> Estimate | None:
        """The noise scale that the advice follows, in the optimizer's metric where there is one."""
        return self.preconditioned_noise_scale or self.noise_scale
