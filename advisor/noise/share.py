"""The share of noise in a step, by which the noise scale is averaged.

Legend: a step of B0 samples has the mean square gradient |G|² + S/B0 with S = tr Σ, of which the
share p = S/(S + B0·|G|²) = φ/(φ + B0) is noise; φ = B0·p̄/(1 − p̄) is that of its mean over steps.

Source: McCandlish et al. 2018, arXiv:1812.06162, appendix D, for that mean; the share: derived.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from advisor.statistics import Estimate, jackknife_covariance, two_sided_t

Floats = npt.NDArray[np.float64]


class Share(msgspec.Struct, frozen=True):
    """p, and how well it is known."""

    #: Above 1 where the samples leave |G|² negative.
    value: float
    variance: float
    #: Of freedom, of the variance.
    degrees: float


_CONFIDENCE = 0.95
#: Degrees of freedom of what is as good as normal.
_ENDLESS = 1e6
#: All that is known of p where the samples say nothing: about anything between 0 and 1.
_UNKNOWN = Share(1.0, 0.25, _ENDLESS)


def estimate_share(
    rows: Floats, batch_size: float, dataset_size: int | None = None
) -> Share | None:
    """Return p at one iterate; None where too few samples tell it.

    `rows` are (S, G2, 1/n) of all n samples, then without each jackknife group in turn. Of a
    training set of N the gradient is the mean that it has itself: its G2 is G2 + S·min(1/n, 1/N).
    """
    traces, sqnorms, sampling = rows.T
    if dataset_size is not None:
        sqnorms = sqnorms + traces * np.minimum(sampling, 1.0 / dataset_size)
    totals = traces + batch_size * sqnorms
    if len(rows) < 3 or not np.all(np.isfinite(totals) & (totals > 0.0)):
        return None
    shares = traces / totals
    variance = jackknife_covariance(shares[1:, None])[0, 0]
    return Share(float(shares[0]), float(variance), len(shares) - 2.0)


def pool_shares(shares: Sequence[Share | None], steps: int | None = None) -> Share | None:
    """Return the mean share over `steps` of which these iterates are a part; None: of these alone.

    Its variance is the samples', or where larger that of having drawn these iterates: half the mean
    square of successive differences, which slow changes hardly enter.

    Source: von Neumann 1941, Ann. Math. Stat. 12:367, for the differences.
    """
    known = [share for share in shares if share is not None]
    if not known:
        return None
    count = len(known)
    whole = average_shares(known, [1.0] * count)
    drawn = 0.0 if steps is None or count < 2 else max(0.0, 1.0 - count / steps)
    if drawn == 0.0:
        return whole
    scatter = float(np.square(np.diff([share.value for share in known])).mean()) / (2.0 * count)
    variance = drawn * scatter + (1.0 - drawn) * whole.variance
    return Share(whole.value, max(variance, whole.variance), count - 1.0)


def average_shares(shares: Sequence[Share | None], weights: Sequence[float]) -> Share:
    """Return the weighted mean of independent shares.

    Source: Satterthwaite 1946, Biometrics Bulletin 2:110; Welch 1947, for the degrees of freedom.
    """
    parts, known = np.array(weights) / math.fsum(weights), [each or _UNKNOWN for each in shares]
    values, variances, degrees = np.array([msgspec.structs.astuple(each) for each in known]).T
    errors = parts**2 * variances
    variance, square = math.fsum(errors), math.fsum(errors**2 / degrees)
    mean = math.fsum(parts * values)
    return Share(mean, variance, variance**2 / square if square > 0.0 else _ENDLESS)


def to_noise_scale(share: Share | None, batch_size: float) -> Estimate:
    """Return φ = B0·p/(1 − p), in samples; what reaches a share of 1 has no end."""
    if share is None:
        return Estimate(None, None, None)
    half_width = two_sided_t(_CONFIDENCE, share.degrees) * math.sqrt(share.variance)
    point, low, high = (
        None if end >= 1.0 else batch_size * end / (1.0 - end)
        for end in (share.value, share.value - half_width, share.value + half_width)
    )
    return Estimate(point, low, high, _CONFIDENCE)


def to_share(noise_scale: float, batch_size: float) -> float:
    """Return p = φ/(φ + B0)."""
    return noise_scale / (noise_scale + batch_size)
