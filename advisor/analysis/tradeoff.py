"""Which global batch trains fastest: fewer samples to train against faster samples.

Training to a given loss takes samples in proportion to 1 + B/φ, so its time is in proportion to
(1 + φ/B)·t(B), where B is the global batch, φ the noise scale and t(B) the seconds of a step. With
t = a + β·B the optimum is sqrt(φ·a/β), and a batch k times as large or as small takes (2 + k + 1/k)/4
of the least time at most: the optimum is flat, so a whole range is as good as the best.
"""

import math
from collections.abc import Sequence

import msgspec

from advisor.conclusions import (
    Interval,
    MemoryConclusion,
    ThroughputConclusion,
    ThroughputPoint,
    TradeoffPoint,
)
from advisor.statistics import Estimate

#: Time to train, over the least, up to which a batch counts as good as the best: below that, φ and
#: the law of the samples are not known well enough to tell batches apart.
NEAR_OPTIMUM_FRACTION = 0.05
#: Least share of the time of a sample that endless accumulation must save before it is considered:
#: with less, a batch that needs no accumulation is always near the optimum.
LEAST_ACCUMULATION_GAIN_FRACTION = NEAR_OPTIMUM_FRACTION
#: Accumulations considered, about evenly spread: a step of 1.5 misses the optimum by 1 % of time at
#: most, and beyond 32 the optimizer step that they save is a small part of the step.
ACCUMULATIONS = (2, 3, 4, 6, 8, 12, 16, 24, 32)


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One way to make a step: micro-batch, accumulation, and the seconds of the step."""

    micro_batch_size: int
    gradient_accumulation_steps: int
    step_s: float

    @property
    def global_batch_size(self) -> int:
        """Samples of one optimizer step."""
        return self.micro_batch_size * self.gradient_accumulation_steps

    @property
    def sample_s(self) -> float:
        """Seconds for each sample."""
        return self.step_s / self.global_batch_size


class BatchChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The batch chosen on the trade-off, and what is as good.

    Attributes:
        chosen: The smallest candidate near the optimum, at the working noise scale.
        optimum: The candidate of least time there.
        interval: Candidates near the optimum anywhere in the noise interval.
    """

    chosen: Candidate
    optimum: Candidate
    interval: Interval


def build_candidates(
    throughput: ThroughputConclusion,
    memory: MemoryConclusion | None,
    *,
    base_batch_size: int | None,
    max_accumulation: int = ACCUMULATIONS[-1],
    max_global_batch_size: int | None = None,
) -> tuple[Candidate, ...]:
    """Return the batches to choose from by size, each with a step time that rests on measurements.

    Micro-batches are those that were timed and are not above the largest that fits. Accumulation is
    added above the largest of them, where it can pay at all, and for a base batch that needs it.

    Args:
        throughput: Measured step times.
        memory: The largest micro-batch; None where it is not known to be limited.
        base_batch_size: The user's global batch.
        max_accumulation: Most forward/backward passes for each optimizer step; 1 forbids it.
        max_global_batch_size: The samples of the dataset; None without a limit.

    Source: derived; the step time of a×b is a·micro_step(b) plus the optimizer step.
    """
    points = _select_points(throughput, memory)
    singles = [_measure(point) for point in points]
    accumulated = [
        _accumulate(point, times, throughput.optimizer_step_s or 0.0)
        for point, times in _choose_accumulations(
            points, singles, throughput, base_batch_size, max_accumulation
        )
        if max_global_batch_size is None
        or point.micro_batch_size * times <= max_global_batch_size
    ]
    by_size = {each.global_batch_size: each for each in [*accumulated, *singles]}
    return tuple(by_size[size] for size in sorted(by_size))


def predict_relative_time(candidate: Candidate, noise_scale: float) -> float:
    """Return the time to train, in seconds for each sample that training takes at least.

    Args:
        candidate: The batch.
        noise_scale: In samples; infinity counts the time of a sample alone.

    Source: McCandlish et al. 2018, arXiv:1812.06162, for the samples: E(B) = E_min·(1 + B/φ).
    """
    return candidate.sample_s * predict_relative_samples(candidate.global_batch_size, noise_scale)


def predict_relative_samples(global_batch_size: int, noise_scale: float) -> float:
    """Return the samples to train, over the fewest that training takes at any batch: 1 + B/φ.

    Source: McCandlish et al. 2018, arXiv:1812.06162, eq. 2.7.
    """
    if noise_scale <= 0.0:
        return math.inf
    return 1.0 + global_batch_size / noise_scale


def get_working_noise_scale(noise: Estimate | None) -> float | None:
    """Return the noise scale to choose by: the point, or the lower end where no upper one is known.

    Without an upper end the point rests on a gradient that may be zero and can be far too large;
    a batch too small by a factor costs no more than one too large by it.

    Source: derived.
    """
    if noise is None:
        return None
    value = noise.low if noise.high is None else noise.point
    return value if value is not None and value > 0.0 else None


def choose_near_optimum(
    candidates: Sequence[Candidate], noise_scale: float
) -> tuple[Candidate, ...]:
    """Return all candidates whose time to train is within the tolerance of the least, by size.

    Args:
        candidates: At least one.
        noise_scale: In samples; infinity for the fastest samples, zero for the shortest step.

    Source: derived. Both ends of the result can only rise with the noise scale.
    """
    times = [_weigh(each, noise_scale) for each in candidates]
    most = min(times) * (1.0 + NEAR_OPTIMUM_FRACTION)
    near = [each for each, time in zip(candidates, times, strict=True) if time <= most]
    return tuple(sorted(near, key=lambda each: each.global_batch_size))


def choose_batch(candidates: Sequence[Candidate], noise: Estimate | None) -> BatchChoice | None:
    """Return the smallest batch near the optimum, with its interval; None where nothing is known.

    The small end needs less memory and its gradients more noise, at no cost in time that could be
    told. The upper end of the interval is unknown where that of the noise scale is, unless its
    lower end already asks for the largest candidate.

    Args:
        candidates: Batches with their step times.
        noise: The noise scale in samples.

    Source: derived; Keskar et al. 2016, arXiv:1609.04836, on small batches.
    """
    working = get_working_noise_scale(noise)
    if not candidates or noise is None or working is None:
        return None
    lowest = choose_near_optimum(candidates, max(noise.low or 0.0, 0.0))
    at_work = choose_near_optimum(candidates, working)
    optimum = min(at_work, key=lambda each: _weigh(each, working))
    largest = max(each.global_batch_size for each in candidates)
    high: int | None = None
    if noise.high is not None:
        high = choose_near_optimum(candidates, noise.high)[-1].global_batch_size
    elif lowest[-1].global_batch_size == largest:
        high = largest
    return BatchChoice(
        chosen=at_work[0],
        optimum=optimum,
        interval=Interval(low=lowest[0].global_batch_size, high=high),
    )


def tabulate_tradeoff(
    candidates: Sequence[Candidate], noise_scale: float | None
) -> tuple[TradeoffPoint, ...]:
    """Return the trade-off curve, time relative to its least and samples to the smallest batch's."""
    if noise_scale is None or not candidates:
        return tuple(_make_row(each, None, None) for each in candidates)
    least_s = min(predict_relative_time(each, noise_scale) for each in candidates)
    fewest = predict_relative_samples(
        min(each.global_batch_size for each in candidates), noise_scale
    )
    return tuple(
        _make_row(
            each,
            predict_relative_time(each, noise_scale) / least_s,
            predict_relative_samples(each.global_batch_size, noise_scale) / fewest,
        )
        for each in candidates
    )


def _weigh(candidate: Candidate, noise_scale: float) -> float:
    """Return the time to train in a unit that is finite for a noise scale of 0 and of infinity."""
    if noise_scale > candidate.global_batch_size:
        return candidate.sample_s * (1.0 + candidate.global_batch_size / noise_scale)
    # The same times the noise scale; all candidates must share the unit, see below.
    return math.nan


def _make_row(each: Candidate, time: float | None, samples: float | None) -> TradeoffPoint:
    return TradeoffPoint(
        global_batch_size=each.global_batch_size,
        micro_batch_size=each.micro_batch_size,
        gradient_accumulation_steps=each.gradient_accumulation_steps,
        step_s=each.step_s,
        relative_time=time,
        relative_samples=samples,
    )
