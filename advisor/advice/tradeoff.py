"""Which global batch trains fastest: fewer samples to train against faster samples.

The optimum is flat (docs/method.md, section 5), so a whole range is as good as the best.
"""

import math
from collections.abc import Sequence

import msgspec

from advisor.advice.data import Interval
from advisor.noise.data import (
    NEAR_OPTIMUM_FRACTION,
    get_working_noise_scale,
    predict_relative_samples,
)
from advisor.rate.data import Candidate
from advisor.statistics import Estimate


class BatchChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The batch chosen on the trade-off, and what is as good."""

    #: The smallest near the optimum, at the working noise scale.
    chosen: Candidate
    #: Of least time there.
    optimum: Candidate
    #: Near the optimum anywhere in the noise interval.
    interval: Interval


def predict_relative_time(candidate: Candidate, noise_scale: float) -> float:
    """Return the time to train in a unit that all candidates share at one noise scale.

    An infinite noise scale counts the time of a sample alone, 0 that of a step.

    Source: McCandlish et al. 2018, arXiv:1812.06162, for the steps: S(B) = S_min·(1 + φ/B).
    """
    if math.isinf(noise_scale):
        return candidate.sample_s
    return candidate.step_s * (1.0 + noise_scale / candidate.global_batch_size)


def choose_near_optimum(
    candidates: Sequence[Candidate], noise_scale: float
) -> tuple[Candidate, ...]:
    """Return all candidates, by size as given, whose time to train is about the least.

    Both ends of the result can only rise with the noise scale.
    """
    times = [predict_relative_time(each, noise_scale) for each in candidates]
    most = min(times) * (1.0 + NEAR_OPTIMUM_FRACTION)
    return tuple(each for each, time in zip(candidates, times, strict=True) if time <= most)


def choose_batch(candidates: Sequence[Candidate], noise: Estimate | None) -> BatchChoice | None:
    """Return the smallest batch near the optimum, with its interval; None where nothing is known.

    The small end needs less memory and its gradients more noise, at no cost in time that could be
    told. The upper end of the interval is unknown where that of the noise scale is, unless its
    lower end already asks for the largest candidate.

    Source: Keskar et al. 2016, arXiv:1609.04836, on small batches.
    """
    working = get_working_noise_scale(noise)
    if not candidates or noise is None or working is None:
        return None
    lowest = max(noise.low or 0.0, 0.0)
    if noise.high is not None:
        high: int | None = choose_near_optimum(candidates, noise.high)[-1].global_batch_size
    else:
        largest = candidates[-1].global_batch_size
        high = largest if _find_optimum(candidates, lowest).global_batch_size == largest else None
    return BatchChoice(
        chosen=choose_near_optimum(candidates, working)[0],
        optimum=_find_optimum(candidates, working),
        interval=Interval(
            low=choose_near_optimum(candidates, lowest)[0].global_batch_size, high=high
        ),
    )


def tabulate_tradeoff(
    candidates: Sequence[Candidate], noise_scale: float | None
) -> tuple[Candidate, ...]:
    """Return the candidates with time over the least, and samples over the smallest batch's."""
    if noise_scale is None or not candidates:
        return tuple(candidates)
    times = [predict_relative_time(each, noise_scale) for each in candidates]
    samples = [predict_relative_samples(each.global_batch_size, noise_scale) for each in candidates]
    return tuple(
        msgspec.structs.replace(
            each, relative_time=time / min(times), relative_samples=count / min(samples)
        )
        for each, time, count in zip(candidates, times, samples, strict=True)
    )


def _find_optimum(candidates: Sequence[Candidate], noise_scale: float) -> Candidate:
    return min(candidates, key=lambda each: predict_relative_time(each, noise_scale))
