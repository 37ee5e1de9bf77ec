"""The noise scale over the last measured steps."""

from collections import deque
from collections.abc import Iterable

from advisor.in_loop.data import NoiseScale
from advisor.noise.data import Estimator, NoiseLogEntry
from advisor.noise.point import LEAST_STEPS, estimate_log_points
from advisor.statistics import median

#: Measured steps that one value is told from: of a tenth of φ samples each, about 13 times φ.
WINDOW_STEPS = 128


class Window:
    """Pools the last measured steps.

    Args:
        steps: The most of them.
        dataset_size: Samples of a training set that is passed many times; None for a stream.

    Raises:
        ValueError: Fewer steps than tell anything, or a training set without a sample.
    """

    def __init__(self, steps: int = WINDOW_STEPS, dataset_size: int | None = None) -> None:
        if steps < LEAST_STEPS:
            raise ValueError(
                f"a window of {steps} steps tells nothing: {LEAST_STEPS} are the least"
            )
        if dataset_size is not None and dataset_size < 1:
            raise ValueError(f"a training set has a sample at least, not {dataset_size}")
        self._dataset_size = dataset_size
        self._entries: deque[NoiseLogEntry] = deque(maxlen=steps)
        self._estimator: Estimator | None = None
        self._value: NoiseScale | None = None
        self._is_new = False

    @property
    def estimator(self) -> Estimator | None:
        """What the steps were told from; None before the first."""
        return self._estimator

    @property
    def entries(self) -> tuple[NoiseLogEntry, ...]:
        """The steps, the last one last."""
        return tuple(self._entries)

    def add(self, estimator: Estimator, entries: Iterable[NoiseLogEntry]) -> None:
        """Take in steps; those told from something else are of another noise scale and go."""
        if estimator != self._estimator:
            self._entries.clear()
            self._estimator = estimator
        self._entries.extend(entries)
        self._is_new = True

    @property
    def value(self) -> NoiseScale | None:
        """The noise scale over the steps; None while they are too few."""
        if self._is_new:
            self._value, self._is_new = self._pool(), False
        return self._value

    def _pool(self) -> NoiseScale | None:
        if self._estimator is None or len(self._entries) < LEAST_STEPS:
            return None
        (point,) = estimate_log_points(
            self.entries, dataset_size=self._dataset_size, most_windows=1
        )
        scale = point.noise_scale
        # As sampled they may be below 0; a lower end of 0 alone says nothing.
        middle, low, high = (
            None if each is None else max(0.0, each)
            for each in (scale.point, scale.low, scale.high)
        )
        return NoiseScale(
            noise_scale=middle,
            low=low or (None if high is None else low),
            high=high,
            at_step=point.at_step,
            steps=len(self._entries),
            samples_seen=point.samples,
            batch_size=median([entry.samples for entry in self._entries]),
            estimator=self._estimator,
        )
