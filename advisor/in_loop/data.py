"""What a monitor of a running training says: the types."""

import msgspec

from advisor.noise.data import Estimator, format_noise_scale
from advisor.statistics import Estimate

#: What a noise scale was told from, in words.
SOURCES: dict[Estimator, str] = {
    "micro-batches": "the micro-batches",
    "ranks": "the ranks' micro-batches",
    "per-example": "single examples in the normalisation layers",
}


class NoiseScale(msgspec.Struct, frozen=True, kw_only=True):
    """The noise scale over the last measured steps, in samples."""

    #: None where the gradient is too small against its noise, as then is `high`.
    noise_scale: float | None
    #: 95 % interval; None where an end is not known.
    low: float | None
    high: float | None
    #: In the middle of the steps, by optimizer steps taken before.
    at_step: int
    #: Measured, and the samples that they saw.
    steps: int
    samples_seen: int
    #: Of a step: the median.
    batch_size: float
    estimator: Estimator

    @property
    def is_known(self) -> bool:
        """Whether the steps say anything of it."""
        return self.high is not None or self.low is not None

    def __str__(self) -> str:
        """Return it with its interval, in samples."""
        if not self.is_known:
            return "not known: the gradient is too small against its noise"
        return f"{format_noise_scale(Estimate(self.noise_scale, self.low, self.high))} samples"
