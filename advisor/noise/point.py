"""The noise scale at frozen parameters, from the gradients of micro-batches.

Legend: g is the gradient of one sample, G its mean, Σ its covariance; micro-batch k of b_k samples
has the mean gradient m_k; n = Σ b_k over K micro-batches, and ḡ is the mean gradient over all n
samples. S estimates tr Σ, G2 estimates |G|², φ = tr Σ / |G|² is the noise scale, in samples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from advisor.noise.data import GradientMoments, NoiseBatches, NoisePoint
from advisor.statistics import Estimate, fieller_ratio, jackknife_covariance

Floats = npt.NDArray[np.float64]


class _Subsets(NamedTuple):
    """Sums over sets of micro-batches: first all of them, then without each group in turn."""

    weighted_sqnorms: Floats
    sum_sqnorms: Floats
    samples: Floats
    micro_batches: Floats


def estimate_noise_point(
    batches: NoiseBatches, *, dataset_size: int | None = None, confidence: float = 0.95
) -> NoisePoint:
    """Return the noise scale at one point of training, with its interval.

    S = (Σ b_k|m_k|² − n|ḡ|²)/(K−1) and G2 = |ḡ|² − S/n are unbiased for tr Σ and |G|², for any mix
    of micro-batch sizes. The interval is Fieller's, over a jackknife that leaves out one group of
    micro-batches at a time.

    With `dataset_size` N the noise scale is that of the training set itself, which is what many
    epochs follow: |ḡ|² − S·(1/n − 1/N), zero correction from n = N on. This assumes that the
    micro-batches were drawn from the dataset without replacement. The interval then is wider
    than need be as n nears N, because the jackknife knows of no finite population.

    The m_k must be means over samples (a sum-reduced loss divided by b_k), their samples
    independent of each other; under BatchNorm all b_k must be equal, and φ holds at that size.

    Args:
        batches: The moments; at least two micro-batches.
        dataset_size: Samples in the training set; None for endless data.
        confidence: Of the intervals.

    Returns:
        `gradient_sqnorm` is G2 of the population (without 1/N) as it came out, negative values
        included; `gradient_cov_trace` is S. Both are Euclidean.

    Raises:
        ValueError: Fewer than two micro-batches.

    Source: McCandlish et al. 2018, arXiv:1812.06162, A.1, for two sizes; the weights for unequal
    sizes, the finite dataset, and the interval are derived.
    """
    if len(batches.micro_batch_sizes) < 2:
        raise ValueError("the noise scale needs at least two micro-batches")
    population = _estimate_pairs(_sum_subsets(batches, batches.plain), None)[0]
    adapted = batches.preconditioned
    return NoisePoint(
        at_step=batches.at_step,
        loss=batches.loss,
        samples=sum(batches.micro_batch_sizes),
        noise_scale=_estimate_ratio(batches, batches.plain, dataset_size, confidence),
        preconditioned_noise_scale=(
            None if adapted is None else _estimate_ratio(batches, adapted, dataset_size, confidence)
        ),
        gradient_sqnorm=float(population[1]),
        gradient_cov_trace=float(population[0]),
    )


def pool_moments(
    gradients: npt.ArrayLike, micro_batch_sizes: Sequence[int], groups: Sequence[int]
) -> GradientMoments:
    """Return the moments of micro-batch gradients that fit in memory as one table.

    Args:
        gradients: K×P, the mean gradient of each micro-batch; for a diagonal metric P multiply
            them by its square root first.
        micro_batch_sizes: b_k, samples of each micro-batch.
        groups: Jackknife group of each micro-batch, from 0.

    Source: derived; the definitions of `GradientMoments`.
    """
    means = np.asarray(gradients, dtype=np.float64)
    sums = means * np.asarray(micro_batch_sizes, dtype=np.float64)[:, None]
    group_sums = np.zeros((max(groups) + 1, means.shape[1]))
    np.add.at(group_sums, np.asarray(groups), sums)
    total = sums.sum(axis=0)
    return GradientMoments(
        sqnorms=tuple(np.square(means).sum(axis=1).tolist()),
        group_sqnorms=tuple(np.square(group_sums).sum(axis=1).tolist()),
        group_dots=tuple((group_sums @ total).tolist()),
        total_sqnorm=float(total @ total),
    )


def _estimate_ratio(
    batches: NoiseBatches, moments: GradientMoments, dataset_size: int | None, confidence: float
) -> Estimate:
    """Return S/G2 with its interval; without one where no group can be left out."""
    pairs = _estimate_pairs(_sum_subsets(batches, moments), dataset_size)
    (trace, sqnorm), replicates = pairs[0].tolist(), pairs[1:]
    if len(replicates) < 2:
        return Estimate(trace / sqnorm if sqnorm > 0.0 else None, None, None, confidence)
    covariance = jackknife_covariance(replicates)
    return fieller_ratio(trace, sqnorm, covariance, len(replicates) - 1, confidence)


def _estimate_pairs(subsets: _Subsets, dataset_size: int | None) -> Floats:
    """Return one row (S, G2) for each set of micro-batches."""
    mean_sqnorms = subsets.sum_sqnorms / np.square(subsets.samples)
    spread = subsets.weighted_sqnorms - subsets.samples * mean_sqnorms
    traces = spread / (subsets.micro_batches - 1.0)
    sampling = 1.0 / subsets.samples
    if dataset_size is not None:
        # From n = N on, ḡ is the training set's gradient: it has no sampling noise to take off.
        sampling = np.maximum(sampling - 1.0 / dataset_size, 0.0)
    return np.stack([traces, mean_sqnorms - traces * sampling], axis=1)


def _sum_subsets(batches: NoiseBatches, moments: GradientMoments) -> _Subsets:
    """Return the sums over all micro-batches, and those without each group that leaves two or more.

    If any group leaves fewer than two, the jackknife is impossible and only the first set is given.
    """
    sizes, unit = _weigh(batches)
    weighted = sizes * np.asarray(moments.sqnorms, dtype=np.float64)
    groups, slots = np.asarray(batches.groups), len(moments.group_sqnorms)
    counts = np.bincount(groups, minlength=slots)
    # |s − s_j|² = |s|² − 2<s_j, s> + |s_j|²
    sqnorms_taken = unit**2 * (
        2.0 * np.asarray(moments.group_dots) - np.asarray(moments.group_sqnorms)
    )
    taken = np.stack(
        [
            np.bincount(groups, weights=weighted, minlength=slots),
            sqnorms_taken,
            np.bincount(groups, weights=sizes, minlength=slots),
            counts,
        ]
    )[:, counts > 0]
    whole = np.array(
        [[weighted.sum()], [unit**2 * moments.total_sqnorm], [sizes.sum()], [sizes.size]]
    )
    remaining = whole - taken
    if np.min(remaining[3]) < 2:
        return _Subsets(*whole)
    return _Subsets(*np.concatenate([whole, remaining], axis=1))


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
