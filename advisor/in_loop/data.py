"""The noise scale of a training as it runs."""

from collections.abc import Sequence

import msgspec

from advisor.noise.data import Estimator, NoiseLogEntry, format_noise_scale
from advisor.noise.point import LEAST_STEPS, estimate_log_points
from advisor.statistics import Estimate, median

#: Measured steps that one value is told from: of a tenth of φ samples each, about 13 times φ.
WINDOW_STEPS = 128
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
    def estimate(self) -> Estimate:
        """The figure with its interval."""
        return Estimate(self.noise_scale, self.low, self.high)

    @property
    def is_known(self) -> bool:
        """Whether the steps say anything of it."""
        return self.high is not None or self.low is not None

    def __str__(self) -> str:
        if not self.is_known:
            return "not known: the gradient is too small against its noise"
        return f"{format_noise_scale(self.estimate)} samples"


def pool_steps(
    entries: Sequence[NoiseLogEntry], estimator: Estimator, dataset_size: int | None = None
) -> NoiseScale | None:
    """Return the noise scale over the steps; None while they are too few."""
    if len(entries) < LEAST_STEPS:
        return None
    (point,) = estimate_log_points(entries, dataset_size=dataset_size, most_windows=1)
    # As sampled they may be below 0; a lower end of 0 alone says nothing.
    scale = point.noise_scale.map(lambda end: max(0.0, end))
    return NoiseScale(
        noise_scale=scale.point,
        low=scale.low or (None if scale.high is None else scale.low),
        high=scale.high,
        at_step=point.at_step,
        steps=len(entries),
        samples_seen=point.samples,
        batch_size=median([entry.samples for entry in entries]),
        estimator=estimator,
    )
