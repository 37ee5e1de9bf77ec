"""The noise scale at one point, from the gradients of micro-batches or from a log of their norms.

Legend: g is the gradient of one sample, G its mean, Σ its covariance; micro-batch k of b_k samples
has the mean gradient m_k; n = Σ b_k over K micro-batches, and ḡ is the mean gradient over all n
samples. S estimates tr Σ, G2 estimates |G|², φ = tr Σ / |G|² is the noise scale, in samples.
"""

import itertools
import statistics
from collections.abc import Iterable, Sequence

import numpy as np

from advisor.noise.data import GradientMoments, NoiseBatches, NoiseLogEntry, NoisePoint
from advisor.noise.share import Floats, Share, estimate_share, pool_shares, to_noise_scale
from advisor.statistics import median

#: Most windows of a log, and most blocks of steps that a window's jackknife leaves out in turn: the
#: points and groups of the tool's own trajectory.
_WINDOWS, _BLOCKS = 6, 16
#: Fewest steps of a window, one for each of the least groups that carry a jackknife.
LEAST_STEPS = 8


def estimate_noise_point(
    *iterates: NoiseBatches,
    batch_size: float | None = None,
    dataset_size: int | None = None,
) -> NoisePoint:
    """Return the noise scale at one point of training, with its interval, over all its iterates.

    S = (Σ b_k|m_k|² − n|ḡ|²)/(K−1) and G2 = |ḡ|² − S/n are unbiased for any mix of micro-batch
    sizes. The share of noise in a step of `batch_size` samples is averaged, with a jackknife that
    leaves out one group at a time. The m_k must be means over independent samples; under BatchNorm
    φ holds at their one size.

    With `dataset_size` N, φ is that of the training set itself, which is what many epochs follow:
    G2 = |ḡ|² − S·(1/n − 1/N). The micro-batches must then be drawn without replacement.

    Raises:
        ValueError: Fewer than two micro-batches.

    Source: McCandlish et al. 2018, arXiv:1812.06162, A.1, for two sizes.
    """
    if any(len(each.micro_batch_sizes) < 2 for each in iterates):
        raise ValueError("the noise scale needs at least two micro-batches")
    batch_size = batch_size or get_batch_size(iterates[-1])
    span = iterates[0].stands_for
    steps = None if span is None else span[1] - span[0]

    def estimate(iterates: Iterable[tuple[NoiseBatches, GradientMoments]]) -> Share | None:
        pairs = (_estimate_pairs(_sum_subsets(*each), dataset_size) for each in iterates)
        return pool_shares([estimate_share(each, batch_size) for each in pairs], steps=steps)

    whole = [_estimate_pairs(_sum_subsets(each, each.plain), None)[0] for each in iterates]
    trace, sqnorm = np.mean(whole, axis=0).tolist()
    plain = estimate((each, each.plain) for each in iterates)
    adapted = [(each, each.preconditioned) for each in iterates if each.preconditioned is not None]
    own = estimate(adapted) if adapted else None
    return NoisePoint(
        at_step=round(median([each.at_step for each in iterates])),
        loss=statistics.fmean(each.loss for each in iterates),
        samples=sum(sum(each.micro_batch_sizes) for each in iterates),
        noise_scale=to_noise_scale(plain, batch_size),
        preconditioned_noise_scale=to_noise_scale(own, batch_size) if adapted else None,
        gradient_sqnorm=sqnorm,
        gradient_cov_trace=trace,
        noise_share=plain,
        preconditioned_noise_share=own,
        span_steps=steps,
    )


def get_batch_size(batches: NoiseBatches) -> int:
    """Return the samples of a step of training; of a gradient where nothing was trained."""
    known = batches.training_batch_size or batches.micro_batch_size
    return known or max(batches.micro_batch_sizes)


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
) -> tuple[NoisePoint, ...]:
    """Return the noise scale in each window of a log, by step; none with fewer than 8 steps.

    The mean of the steps' ratios would be biased, so the ratio is that of sums over a window, with
    an interval by a jackknife of blocks of steps, which must have drawn fresh samples. A φ
    that changes within a window makes it wider.

    Source: McCandlish et al. 2018, arXiv:1812.06162, A.1, for the pair of one step.
    """
    ordered = sorted(entries, key=lambda entry: entry.at_step)
    batch_size = median([entry.samples for entry in entries]) if entries else 1.0
    windows = min(most_windows, len(ordered) // LEAST_STEPS)
    edges = [round(len(ordered) * k / windows) for k in range(windows + 1)] if windows else []
    return tuple(
        _estimate_window(ordered[start:end], batch_size, dataset_size)
        for start, end in itertools.pairwise(edges)
    )


def _estimate_window(
    entries: Sequence[NoiseLogEntry], batch_size: float, dataset_size: int | None
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
    trace, sqnorm = pairs[0].tolist()
    if dataset_size is not None:  # the training set's own gradient: G2 + S/N
        pairs[:, 1] += pairs[:, 0] / dataset_size
    share = pool_shares([estimate_share(pairs, batch_size)])
    losses = [entry.loss for entry in entries if entry.loss is not None]
    return NoisePoint(
        at_step=round(median([entry.at_step for entry in entries])),
        loss=statistics.fmean(losses) if losses else None,
        samples=round(float(samples.sum())),
        noise_scale=to_noise_scale(share, batch_size),
        preconditioned_noise_scale=None,
        gradient_sqnorm=sqnorm,
        gradient_cov_trace=trace,
        noise_share=share,
    )
