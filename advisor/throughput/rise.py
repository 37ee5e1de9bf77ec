"""How much faster batches beyond the largest timed size could still be.

Legend: μ_k is the log throughput of size b_k, b_K the largest. An affine law a + βb through the
largest sizes has the limit 1/β, above the throughput at b_K by the rise ρ = log(1 + a/(β·b_K)).
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from advisor.statistics import two_sided_t
from advisor.throughput.law import StepLaw, fit_coefficients
from advisor.throughput.paired_sizes import PairedSizes

Floats = npt.NDArray[np.float64]

#: Fewest sizes that the law goes through: two would fit any noise.
LEAST_TAIL_SIZES = 3
#: A law that misses a size by less than this, in log throughput, serves: a fifth of the tolerance
#: that the saturation batch is defined by.
_SERVING_MISFIT = 0.01
#: Confidence with which a larger misfit must be more than noise before sizes are left out.
_MISFIT_CONFIDENCE = 0.95
#: Step of the numerical derivative, in log throughput; far below noise, far above rounding.
_DERIVATIVE_STEP = 1e-5
#: Growth of the step time over all sizes, as a share of its fixed part, below which there is none.
_LEAST_GROWTH_FRACTION = 1e-9


class Rise(NamedTuple):
    """The rise in log throughput from the largest size to the limit.

    Attributes:
        log_gain: ρ; negative where the times grow faster than the batch, infinite without a limit.
        gradient: dρ/dμ_k for each size.
        law: The law behind it; None where it has no limit, or no fixed cost that larger batches
            could share out.
    """

    log_gain: float
    gradient: Floats
    law: StepLaw | None


def estimate_rise(paired: PairedSizes) -> Rise:
    """Return the rise that the affine law through the largest sizes predicts.

    The law goes through as many of the largest sizes as it fits within their noise: small sizes
    often follow a law of their own (a kink where the device fills up, stairs), and the rise beyond
    the largest size is no business of theirs.

    Args:
        paired: At least three sizes.

    Source: derived from Hockney's affine law.
    """
    count = len(paired.sizes)
    start = next(
        (first for first in range(count - LEAST_TAIL_SIZES) if _fits(paired, first)),
        count - LEAST_TAIL_SIZES,
    )
    log_gain = _compute_log_gain(paired, paired.log_throughput, start)
    gradient = np.zeros(count)
    if math.isinf(log_gain):
        return Rise(log_gain, gradient, None)
    for index in range(start, count):
        moved = paired.log_throughput.copy()
        moved[index] += _DERIVATIVE_STEP
        gradient[index] = (_compute_log_gain(paired, moved, start) - log_gain) / _DERIVATIVE_STEP
    fixed_s, per_sample_s = _fit_tail(paired, paired.log_throughput, start)
    law = (
        StepLaw(kind="affine", fixed_s=fixed_s, per_sample_s=per_sample_s)
        if fixed_s > 0.0
        else None
    )
    return Rise(log_gain, gradient, law)


def compute_contrast_error(paired: PairedSizes, weights: Floats) -> float:
    """Return the standard error of Σ w_k μ_k for weights that sum to zero.

    Source: derived; for such weights wᵀCw = −½ Σ w_i w_j Var(μ_i − μ_j).
    """
    variance = -0.5 * float(weights @ np.square(paired.difference_errors) @ weights)
    return math.sqrt(max(variance, 0.0))


def _fits(paired: PairedSizes, start: int) -> bool:
    """Return whether the affine law misses no size from `start` on by more than noise explains."""
    sizes = np.asarray(paired.sizes[start:], dtype=np.float64)
    fixed_s, per_sample_s = _fit_tail(paired, paired.log_throughput, start)
    times = fixed_s + per_sample_s * sizes
    if per_sample_s <= 0.0 or np.any(times <= 0.0):
        return False
    misfit = float(np.max(np.abs(paired.log_throughput[start:] - np.log(sizes / times))))
    # Of one level; a difference of two levels has twice its variance.
    error = float(np.median(paired.difference_errors[np.triu_indices(len(paired.sizes), 1)]))
    confidence = 1.0 - (1.0 - _MISFIT_CONFIDENCE) / len(sizes)
    quantile = two_sided_t(confidence, paired.degrees_of_freedom)
    return misfit <= max(quantile * error / math.sqrt(2.0), _SERVING_MISFIT)


def _fit_tail(paired: PairedSizes, log_throughput: Floats, start: int) -> tuple[float, float]:
    sizes = paired.sizes[start:]
    times = np.asarray(sizes, dtype=np.float64) / np.exp(log_throughput[start:])
    fixed_s, per_sample_s = fit_coefficients(sizes, times.tolist(), columns=2).tolist()
    return fixed_s, per_sample_s


def _compute_log_gain(paired: PairedSizes, log_throughput: Floats, start: int) -> float:
    fixed_s, per_sample_s = _fit_tail(paired, log_throughput, start)
    largest = paired.sizes[-1]
    if (
        per_sample_s * largest <= _LEAST_GROWTH_FRACTION * abs(fixed_s)
        or fixed_s <= -per_sample_s * largest
    ):
        return math.inf
    return math.log1p(fixed_s / (per_sample_s * largest))
