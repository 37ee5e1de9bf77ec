"""The noise scale at one point, from the gradients of micro-batches or from a log of their norms.

Legend: g is the gradient of one sample, G its mean, Σ its covariance; micro-batch k of b_k samples
has the mean gradient m_k; n = Σ b_k over K micro-batches, and ḡ is the mean gradient over all n
samples. S estimates tr Σ, G2 estimates |G|², φ = tr Σ / |G|² is the noise scale, in samples.
"""

import itertools
import statistics
from collections.abc import Sequence

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
    sizes; the share of noise in a step of `batch_size` samples is averaged. The m_k must be means
    over independent samples; with a `dataset_size`, samples drawn without replacement.

    Source: McCandlish et al. 2018, arXiv:1812.06162, A.1, for two sizes.
    """
    adapted = [(each, each.preconditioned) for each in iterates if each.preconditioned is not None]
    span = iterates[0].stands_for
    return _make_point(
        [_list_rows(each, each.plain) for each in iterates],
        [_list_rows(*pair) for pair in adapted],
        iterates,
        samples=sum(sum(each.micro_batch_sizes) for each in iterates),
        batch_size=batch_size or get_batch_size(iterates[-1]),
        dataset_size=dataset_size,
        span_steps=None if span is None else span[1] - span[0],
    )


def estimate_working_share(batches: NoiseBatches) -> Share | None:
    """Return the share of noise at one iterate, in the optimizer's metric where it is known."""
    rows = _list_rows(batches, batches.preconditioned or batches.plain)
    return estimate_share(rows, get_batch_size(batches))


def _make_point(
    plain: Sequence[Floats],
    own: Sequence[Floats],
    seen: Sequence[NoiseBatches | NoiseLogEntry],
    *,
    samples: int,
    batch_size: float,
    dataset_size: int | None,
    span_steps: int | None = None,
) -> NoisePoint:
    """Return the point of iterates with these rows of (S, G2, 1/n)."""
    losses = [each.loss for each in seen if each.loss is not None]
    trace, sqnorm, _ = np.mean([rows[0] for rows in plain], axis=0).tolist()
    share, own_share = (
        pool_shares([estimate_share(rows, batch_size, dataset_size) for rows in each], span_steps)
        for each in (plain, own)
    )
    return NoisePoint(
        at_step=round(median([each.at_step for each in seen])),
        loss=statistics.fmean(losses) if losses else None,
        samples=samples,
        noise_scale=to_noise_scale(share, batch_size),
        preconditioned_noise_scale=to_noise_scale(own_share, batch_size) if own else None,
        gradient_sqnorm=sqnorm,
        gradient_cov_trace=trace,
        noise_share=share,
        preconditioned_noise_share=own_share,
        span_steps=span_steps,
    )


def get_batch_size(batches: NoiseBatches) -> int:
    """Return the samples of a step of training; of a gradient where nothing was trained."""
    known = batches.training_batch_size or batches.micro_batch_size
    return known or max(batches.micro_batch_sizes)


def _list_rows(batches: NoiseBatches, moments: GradientMoments) -> Floats:
    """Return S, G2 and 1/n of all micro-batches, then without each group in turn.

    If any group leaves fewer than two, the jackknife is impossible and only the first is given.
    Where the loss averages over tokens, a micro-batch weighs by its tokens, and a sample is as many
    as samples have on average.
    """
    sizes = np.asarray(batches.weights or batches.micro_batch_sizes, dtype=np.float64)
    if len(sizes) < 2:
        raise ValueError("the noise scale needs at least two micro-batches")
    unit = sum(batches.micro_batch_sizes) / sizes.sum()
    sizes = unit * sizes
    sums, dots = unit**2 * np.array([moments.group_sqnorms, moments.group_dots])
    weighted = sizes * moments.sqnorms if moments.sqnorms else sums / sizes
    groups = batches.groups or range(len(sums))
    columns = (weighted, sizes, np.ones_like(sizes))
    parts, samples, counts = (np.bincount(groups, each, len(sums)) for each in columns)
    # |s − s_j|² = |s|² − 2<s_j, s> + |s_j|²
    taken = np.stack([parts, 2.0 * dots - sums, samples, counts])[:, counts > 0]
    whole = np.array(
        [[weighted.sum()], [unit**2 * moments.total_sqnorm], [sizes.sum()], [sizes.size]]
    )
    subsets = np.concatenate([whole, whole - taken], axis=1)
    weighted, sqnorms, samples, counts = whole if np.min(subsets[3]) < 2 else subsets
    traces = (weighted - sqnorms / samples) / (counts - 1.0)
    return np.stack([traces, sqnorms / samples**2 - traces / samples, 1.0 / samples], axis=1)


def estimate_log_points(
    entries: Sequence[NoiseLogEntry],
    *,
    dataset_size: int | None = None,
    most_windows: int = _WINDOWS,
) -> tuple[NoisePoint, ...]:
    """Return the noise scale in each window of a log, by step; none with fewer than 8 steps.

    It is the ratio of sums over a window, with a jackknife of blocks of steps, which must have
    drawn fresh samples: the mean of the steps' ratios would be biased.
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
    rows = np.stack([traces, means - traces / samples, 1.0 / samples], axis=1)
    blocks = np.arange(len(entries)) * min(_BLOCKS, len(entries)) // len(entries)
    kept = [np.full(len(entries), fill_value=True), *(blocks != k for k in range(blocks[-1] + 1))]
    averages = np.stack([np.average(rows[each], axis=0, weights=samples[each]) for each in kept])
    return _make_point(
        [averages],
        [],
        entries,
        samples=round(float(samples.sum())),
        batch_size=batch_size,
        dataset_size=dataset_size,
    )
