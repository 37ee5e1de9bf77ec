"""Which global batch trains fastest: fewer samples to train against faster samples.

Training to a given loss takes samples in proportion to 1 + B/φ, so its time is in proportion to
(1 + φ/B)·t(B), where B is the global batch, φ the noise scale and t(B) the seconds of a step. With
t = a + β·B the optimum is sqrt(φ·a/β), and a batch k times as large or as small takes at most
(2 + k + 1/k)/4 of the least time: the optimum is flat, so a whole range is as good as the best.
"""

import math
from collections.abc import Sequence

import msgspec

from advisor.advice.candidates import Candidate
from advisor.advice.data import Interval, TradeoffPoint
from advisor.noise.data import (
    NEAR_OPTIMUM_FRACTION,
    get_working_noise_scale,
    predict_relative_samples,
)
from advisor.statistics import Estimate


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


def predict_relative_time(candidate: Candidate, noise_scale: float) -> float:
    """Return the time to train in a unit that all candidates share at one noise scale.

    Args:
        candidate: The batch.
        noise_scale: In samples; infinity counts the time of a sample alone, 0 that of a step.

    Source: McCandlish et al. 2018, arXiv:1812.06162, for the steps: S(B) = S_min·(1 + φ/B).
    """
    if math.isinf(noise_scale):
        return candidate.sample_s
    return candidate.step_s * (1.0 + noise_scale / candidate.global_batch_size)


def choose_near_optimum(
    candidates: Sequence[Candidate], noise_scale: float
) -> tuple[Candidate, ...]:
    """Return all candidates whose time to train is within the tolerance of the least, by size.

    Args:
        candidates: At least one.
        noise_scale: In samples; infinity for the fastest samples, zero for the shortest step.

    Source: derived. Both ends of the result can only rise with the noise scale.
    """
    times = [predict_relative_time(each, noise_scale) for each in candidates]
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
    at_work = choose_near_optimum(candidates, working)
    low_noise_scale = max(noise.low or 0.0, 0.0)
    return BatchChoice(
        chosen=at_work[0],
        optimum=_find_optimum(candidates, working),
        interval=Interval(
            low=choose_near_optimum(candidates, low_noise_scale)[0].global_batch_size,
            high=_bound_above(candidates, noise, low_noise_scale),
        ),
    )


def tabulate_tradeoff(
    candidates: Sequence[Candidate], noise_scale: float | None
) -> tuple[TradeoffPoint, ...]:
    """Return the trade-off curve: time over its least, samples over the smallest batch's."""
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


def _find_optimum(candidates: Sequence[Candidate], noise_scale: float) -> Candidate:
    return min(candidates, key=lambda each: predict_relative_time(each, noise_scale))


def _bound_above(
    candidates: Sequence[Candidate], noise: Estimate, low_noise_scale: float
) -> int | None:
    """Return the largest batch near the optimum anywhere in the noise interval, if bounded."""
    if noise.high is not None:
        return choose_near_optimum(candidates, noise.high)[-1].global_batch_size
    largest = max(each.global_batch_size for each in candidates)
    at_least = _find_optimum(candidates, low_noise_scale).global_batch_size
    return largest if at_least == largest else None


def _make_row(each: Candidate, time: float | None, samples: float | None) -> TradeoffPoint:
    return TradeoffPoint(
        global_batch_size=each.global_batch_size,
        micro_batch_size=each.micro_batch_size,
        gradient_accumulation_steps=each.gradient_accumulation_steps,
        step_s=each.step_s,
        relative_time=time,
        relative_samples=samples,
    )
