"""The noise scale from what a real run noted of its own gradients, step by step.

Legend: step t has the unbiased pair S_t for tr Σ and G2_t for |G|² (analysis/noise.py) from n_t
samples; a window is a row of steps over which φ = Σ n_t S_t / Σ n_t G2_t.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from advisor.noise.data import NoiseLogEntry, NoisePoint
from advisor.statistics import fieller_ratio, jackknife_covariance, median

Floats = npt.NDArray[np.float64]

#: Most windows of a log, and most blocks of steps that a window's jackknife leaves out in turn: the
#: points and groups of the tool's own trajectory.
_WINDOWS, _BLOCKS = 6, 16
#: Fewest steps of a window, one for each of the least groups that carry a jackknife.
LEAST_STEPS = 8


def estimate_log_points(
    entries: Sequence[NoiseLogEntry],
    *,
    dataset_size: int | None = None,
    most_windows: int = _WINDOWS,
    confidence: float = 0.95,
) -> tuple[NoisePoint, ...]:
    """Return the noise scale in each window of the log, by step.

    One step says next to nothing, and the mean of its ratios would be biased, so the ratio is that
    of sums over a window. Its interval is Fieller's over a jackknife that leaves out one block of
    successive steps at a time. The steps are assumed to have drawn fresh samples each; a φ that
    changes within a window makes its interval wider.

    Args:
        entries: The log, in any order; with fewer than 8 of them there is no point.
        dataset_size: As for `estimate_noise_point`.
        most_windows: Windows that a log is cut into where it is long enough.
        confidence: Of the intervals.

    Source: McCandlish et al. 2018, arXiv:1812.06162, A.1, for the pair of one step; derived for the
    rest.
    """
    ordered = sorted(entries, key=lambda entry: entry.at_step)
    if len(ordered) < LEAST_STEPS:
        return ()
    windows = min(most_windows, len(ordered) // LEAST_STEPS)
    edges = [round(len(ordered) * k / windows) for k in range(windows + 1)]
    return tuple(
        _estimate_window(ordered[start:end], dataset_size, confidence)
        for start, end in itertools.pairwise(edges)
    )


def _estimate_window(
    entries: Sequence[NoiseLogEntry], dataset_size: int | None, confidence: float
) -> NoisePoint:
    pairs, samples = _estimate_pairs(entries), np.array([entry.samples for entry in entries])
    weighted = pairs * samples[:, None]
    blocks = np.arange(len(entries)) * min(_BLOCKS, len(entries)) // len(entries)
    taken = np.stack([np.bincount(blocks, weights=column) for column in weighted.T], axis=1)
    counts = np.bincount(blocks, weights=samples)
    kept = (weighted.sum(axis=0) - taken) / (samples.sum() - counts)[:, None]
    population = weighted.sum(axis=0) / samples.sum()
    trace, sqnorm = _correct(population[None, :], dataset_size)[0].tolist()
    covariance = jackknife_covariance(_correct(kept, dataset_size))
    losses = [entry.loss for entry in entries if entry.loss is not None]
    return NoisePoint(
        at_step=round(median([entry.at_step for entry in entries])),
        loss=sum(losses) / len(losses) if losses else None,
        samples=round(float(samples.sum())),
        noise_scale=fieller_ratio(trace, sqnorm, covariance, len(counts) - 1, confidence),
        preconditioned_noise_scale=None,
        gradient_sqnorm=float(population[1]),
        gradient_cov_trace=float(population[0]),
    )


def _estimate_pairs(entries: Sequence[NoiseLogEntry]) -> Floats:
    """Return one row (S, G2) for each step."""
    columns = [
        (entry.samples, entry.micro_batches, entry.micro_batch_sqnorm, entry.mean_sqnorm)
        for entry in entries
    ]
    samples, micro_batches, parts, mean = np.asarray(columns, dtype=np.float64).T
    traces = samples * (parts - mean) / (micro_batches - 1.0)
    return np.stack([traces, mean - traces / samples], axis=1)


def _correct(pairs: Floats, dataset_size: int | None) -> Floats:
    """Return the pairs for the training set's own gradient: G2 + S/N."""
    if dataset_size is None:
        return pairs
    return np.stack([pairs[:, 0], pairs[:, 1] + pairs[:, 0] / dataset_size], axis=1)
