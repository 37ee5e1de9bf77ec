"""The noise scale at one point, from the gradients of micro-batches or from a log of their norms.

Legend: g is the gradient of one sample, G its mean, Σ its covariance; micro-batch k of b_k samples
has the mean gradient m_k; n = Σ b_k over K micro-batches, and ḡ is the mean gradient over all n
samples. S estimates tr Σ, G2 estimates |G|², φ = tr Σ / |G|² is the noise scale, in samples.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from advisor.noise.data import GradientMoments, NoiseBatches, NoiseLogEntry, NoisePoint
from advisor.statistics import Estimate, fieller_ratio, jackknife_covariance, median

Floats = npt.NDArray[np.float64]

#: Most windows of a log, and most blocks of steps that a window's jackknife leaves out in turn: the
#: points and groups of the tool's own trajectory.
_WINDOWS, _BLOCKS = 6, 16
#: Fewest steps of a window, one for each of the least groups that carry a jackknife.
LEAST_STEPS = 8


def estimate_noise_point(
    batches: NoiseBatches, *, dataset_size: int | None = None, confidence: float = 0.95
) -> NoisePoint:
    """Return the noise scale at one point of training, with its interval.

    S = (Σ b_k|m_k|² − n|ḡ|²)/(K−1) and G2 = |ḡ|² − S/n are unbiased for any mix of micro-batch
    sizes. The interval is Fieller's, over a jackknife that leaves out one group at a time. The m_k
    must be means over independent samples; under BatchNorm φ holds at their one size.

    With `dataset_size` N, φ is that of the training set itself, which is what many epochs follow:
    G2 = |ḡ|² − S·(1/n − 1/N). The micro-batches must then be drawn without replacement.

    Raises:
        ValueError: Fewer than two micro-batches.

    Source: McCandlish et al. 2018, arXiv:1812.06162, A.1, for two sizes.
    """
    if len(batches.micro_batch_sizes) < 2:
        raise ValueError("the noise scale needs at least two micro-batches")

    def estimate(moments: GradientMoments) -> Estimate:
        pairs = _estimate_pairs(_sum_subsets(batches, moments), dataset_size)
        (trace, sqnorm), kept = pairs[0].tolist(), pairs[1:]
        if len(kept) < 2:  # no group can be left out
            return Estimate(trace / sqnorm if sqnorm > 0.0 else None, None, None, confidence)
        return fieller_ratio(trace, sqnorm, jackknife_covariance(kept), len(kept) - 1, confidence)

    trace, sqnorm = _estimate_pairs(_sum_subsets(batches, batches.plain), None)[0].tolist()
    own = batches.preconditioned
    return NoisePoint(
        at_step=batches.at_step,
        loss=batches.loss,
        samples=sum(batches.micro_batch_sizes),
        noise_scale=estimate(batches.plain),
        preconditioned_noise_scale=None if own is None else estimate(own),
        gradient_sqnorm=sqnorm,
        gradient_cov_trace=trace,
    )


def _estimate_pairs(subsets: Floats, dataset_size: int | None) -> Floats:
    """Return one row (S, G2) for each column Σ b_k|m_k|², |Σ b_k·m_k|², n, K."""
    weighted_sqnorms, sum_sqnorms, samples, micro_batches = subsets
    mean_sqnorms = sum_sqnorms / np.square(samples)
    traces = (weighted_sqnorms - samples * mean_sqnorms) / (micro_batches - 1.0)
    sampling = 1.0 / samples
    if dataset_size is not None:
        # From n = N on, ḡ is the training set's gradient: it has no sampling noise to take off.
        sampling = np.maximum(sampling - 1.0 / dataset_size, 0.0)
    return np.stack([traces, mean_sqnorms - traces * sampling], axis=1)


def _sum_subsets(batches: NoiseBatches, moments: GradientMoments) -> Floats:
    """Return the sums over all micro-batches, and without each group in turn, one in a column.

    If any group leaves fewer than two, the jackknife is impossible and only the first is given.
    """
    sizes, unit = _weigh(batches)
    weighted = sizes * np.asarray(moments.sqnorms, dtype=np.float64)
    groups, slots = np.asarray(batches.groups), len(moments.group_sqnorms)
    counts = np.bincount(groups, minlength=slots)
    # |s − s_j|² = |s|² − 2<s_j, s> + |s_j|²
    sqnorms_taken = 2.0 * np.asarray(moments.group_dots) - np.asarray(moments.group_sqnorms)
    taken = np.stack(
        [
            np.bincount(groups, weights=weighted, minlength=slots),
            unit**2 * sqnorms_taken,
            np.bincount(groups, weights=sizes, minlength=slots),
            counts,
        ]
    )[:, counts > 0]
    whole = np.array(
        [[weighted.sum()], [unit**2 * moments.total_sqnorm], [sizes.sum()], [sizes.size]]
    )
    remaining = whole - taken
    return whole if np.min(remaining[3]) < 2 else np.concatenate([whole, remaining], axis=1)


def _weigh(batches: NoiseBatches) -> tuple[Floats, float]:
    """Return the weight of each mean gradient in samples, and the samples of one unit of weight.

    Where the loss averages over tokens, a micro-batch counts by its tokens, and a sample is as many
    tokens as samples have on average: then φ in tokens is φ in samples times that number.
    """
    sizes = np.asarray(batches.micro_batch_sizes, dtype=np.float64)
    if not batches.weights:
        return sizes, 1.0
    weights = np.asarray(batches.weights, dtype=np.float64)
    unit = float(sizes.sum() / weights.sum())
    return weights * unit, unit


def estimate_log_points(
    entries: Sequence[NoiseLogEntry],
    *,
    dataset_size: int | None = None,
    most_windows: int = _WINDOWS,
    confidence: float = 0.95,
) -> tuple[NoisePoint, ...]:
    """Return the noise scale in each window of a log, by step; none with fewer than 8 steps.

    The mean of the steps' ratios would be biased, so the ratio is that of sums over a window, with
    Fieller's interval over a jackknife of blocks of steps, which must have drawn fresh samples. A φ
    that changes within a window makes it wider.

    Source: McCandlish et al. 2018, arXiv:1812.06162, A.1, for the pair of one step.
    """
    ordered = sorted(entries, key=lambda entry: entry.at_step)
    windows = min(most_windows, len(ordered) // LEAST_STEPS)
    edges = [round(len(ordered) * k / windows) for k in range(windows + 1)] if windows else []
    return tuple(
        _estimate_window(ordered[start:end], dataset_size, confidence)
        for start, end in itertools.pairwise(edges)
    )


def _estimate_window(
    entries: Sequence[NoiseLogEntry], dataset_size: int | None, confidence: float
) -> NoisePoint:
    columns = [(e.samples, e.micro_batches, e.micro_batch_sqnorm, e.mean_sqnorm) for e in entries]
    samples, micro_batches, parts, means = np.asarray(columns, dtype=np.float64).T
    traces = samples * (parts - means) / (micro_batches - 1.0)
    weighted = samples[:, None] * np.stack([traces, means - traces / samples], axis=1)
    blocks = np.arange(len(entries)) * min(_BLOCKS, len(entries)) // len(entries)
    taken = np.stack([np.bincount(blocks, weights=column) for column in weighted.T], axis=1)
    counts = np.bincount(blocks, weights=samples)
    kept = (weighted.sum(axis=0) - taken) / (samples.sum() - counts)[:, None]
    pairs = np.concatenate([weighted.sum(axis=0, keepdims=True) / samples.sum(), kept])
    whole_trace, whole_sqnorm = pairs[0].tolist()
    if dataset_size is not None:  # the training set's own gradient: G2 + S/N
        pairs[:, 1] += pairs[:, 0] / dataset_size
    trace, sqnorm = pairs[0].tolist()
    covariance = jackknife_covariance(pairs[1:])
    losses = [entry.loss for entry in entries if entry.loss is not None]
    return NoisePoint(
        at_step=round(median([entry.at_step for entry in entries])),
        loss=sum(losses) / len(losses) if losses else None,
        samples=round(float(samples.sum())),
        noise_scale=fieller_ratio(trace, sqnorm, covariance, len(counts) - 1, confidence),
        preconditioned_noise_scale=None,
        gradient_sqnorm=whole_sqnorm,
        gradient_cov_trace=whole_trace,
    )
