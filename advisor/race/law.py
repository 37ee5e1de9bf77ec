"""What noise and speed say of a pair before it is trained: a prior, known to a factor of two.

Legend: φ is the noise scale, N the samples of the dataset, B0 the base batch, x the rate over the
rule's rate. Steps to a loss go as (1 + φ·(1/B − 1/N)) / (x·(2 − x)).
"""

import math
import statistics
from collections.abc import Sequence

import msgspec

from advisor.noise.data import NEAR_OPTIMUM_FRACTION, predict_relative_samples
from advisor.rate.data import Candidate

#: Standard deviation of the log of what training takes over what the law says: measured noise
#: scales were off by factors of 0.34 to 5, ratios of times by less.
LAW_DEVIATION = math.log(2.0)
#: Rates of users over their best ones: from tuned to a quarter.
_OWN_SHARES = (1.0, 0.71, 0.5, 0.35, 0.25)
#: x·(2 − x) is taken for no less: from x = 2 on the law has no answer, while training often has.
_LEAST_PACE = 0.25


def predict_log_ratio(
    way: Candidate,
    base: Candidate,
    noise_scale: float | None,
    *,
    dataset_size: int | None = None,
    rate_over_rule: float = 1.0,
) -> float:
    """Return the log of a pair's time to a loss over the base pair's, by the law.

    Without a noise scale a batch is taken to save steps by its root, half of what it can.

    Source: McCandlish et al. 2018, arXiv:1812.06162, for the steps; x·(2 − x) is the decrease of a
    quadratic at x times its best rate.
    """
    steps = math.sqrt(base.global_batch_size / way.global_batch_size)
    if noise_scale is not None:
        own, other = (
            count_relative_steps(each.global_batch_size, noise_scale, dataset_size)
            for each in (way, base)
        )
        steps = own / other
    return math.log(steps * way.step_s / base.step_s) - _predict_log_pace(rate_over_rule)


def _predict_log_pace(rate_over_rule: float) -> float:
    """Return the log of the progress of a step over that at the rule's rate.

    How far the user's own rate is below its best is not known, so it is the mean over that.
    """

    def progress(share: float) -> float:
        return max(share * (2.0 - share), _LEAST_PACE)

    logs = (math.log(progress(rate_over_rule * own) / progress(own)) for own in _OWN_SHARES)
    return statistics.fmean(logs)


def count_relative_steps(
    global_batch_size: int, noise_scale: float, dataset_size: int | None = None
) -> float:
    """Return the steps to a loss over those of an endless batch, or of the whole dataset."""
    unseen = 1.0 / global_batch_size - (1.0 / dataset_size if dataset_size else 0.0)
    return 1.0 + noise_scale * max(unseen, 0.0)


def choose_by_law(
    candidates: Sequence[Candidate], noise_scale: float | None, dataset_size: int | None = None
) -> tuple[Candidate, ...]:
    """Return the candidates within 5 % of the least time by the law, by size; none without φ."""
    if noise_scale is None or not candidates:
        return ()
    times = [
        each.step_s * count_relative_steps(each.global_batch_size, noise_scale, dataset_size)
        for each in candidates
    ]
    most = min(times) * (1.0 + NEAR_OPTIMUM_FRACTION)
    return tuple(each for each, time in zip(candidates, times, strict=True) if time <= most)


def tabulate(
    candidates: Sequence[Candidate],
    base: Candidate | None,
    noise_scale: float | None,
    dataset_size: int | None = None,
) -> tuple[Candidate, ...]:
    """Return the candidates with the law's time over the base's and samples over the smallest's."""
    if noise_scale is None or base is None or not candidates:
        return tuple(candidates)
    least = predict_relative_samples(candidates[0].global_batch_size, noise_scale)
    return tuple(
        msgspec.structs.replace(
            each,
            relative_time=math.exp(
                predict_log_ratio(each, base, noise_scale, dataset_size=dataset_size)
            ),
            relative_samples=predict_relative_samples(each.global_batch_size, noise_scale) / least,
        )
        for each in candidates
    )
