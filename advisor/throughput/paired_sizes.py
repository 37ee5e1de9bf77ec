"""Throughput of every size, compared within sessions.

Legend: x_sk is the log throughput of size k in session s (the median over its blocks), modelled as
x_sk = μ_k + u_s + e_sk. What makes a whole session fast or slow (clocks, memory layout, neighbours)
is u_s and cancels when two sizes are compared; only e_sk, pooled over all sizes, is noise.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class PairedSizes(NamedTuple):
    """Sizes on one scale, session effects taken out.

    Attributes:
        sizes: K micro-batch sizes, ascending.
        log_throughput: K levels μ_k, in log samples/s of an average session.
        difference_errors: K×K standard errors of μ_i − μ_j.
        degrees_of_freedom: Of the pooled noise; at least 1.
        sessions: Sessions behind each size.
    """

    sizes: tuple[int, ...]
    log_throughput: Floats
    difference_errors: Floats
    degrees_of_freedom: int
    sessions: tuple[int, ...]


def pair_sizes(step_s: Mapping[int, Mapping[int, float]]) -> PairedSizes | None:
    """Return all sizes on one scale, or None where no noise can be told from the sessions.

    Sessions may have timed different sizes, as long as they share enough of them to be compared.
    The noise e_sk is assumed independent and about equal at all sizes; its degrees of freedom are
    (sessions − 1)·(sizes − 1) where every session timed every size, which is what makes three
    sessions enough.

    Args:
        step_s: Seconds of a step, by session and micro-batch size.

    Source: two-way additive analysis of variance (Fisher 1925), by least squares.
    """
    sizes = sorted({size for times in step_s.values() for size in times})
    cells = [
        (row, sizes.index(size), np.log(size / seconds))
        for row, times in enumerate(step_s.values())
        for size, seconds in sorted(times.items())
    ]
    design = _build_design(cells, len(step_s), len(sizes))
    levels = np.array([level for _, _, level in cells])
    degrees = len(cells) - design.shape[1]
    if degrees < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    solution = np.linalg.lstsq(design, levels, rcond=None)[0]
    residuals = levels - design @ solution
    inverse = np.linalg.inv(design.T @ design)
    covariance = float(residuals @ residuals) / degrees * inverse[: len(sizes), : len(sizes)]
    variances = np.diag(covariance)
    squared = variances[:, None] + variances[None, :] - 2.0 * covariance
    return PairedSizes(
        sizes=tuple(sizes),
        log_throughput=solution[: len(sizes)],
        difference_errors=np.sqrt(np.maximum(squared, 0.0)),
        degrees_of_freedom=degrees,
        sessions=tuple(sum(size in times for times in step_s.values()) for size in sizes),
    )


def _build_design(cells: Sequence[tuple[int, int, float]], sessions: int, sizes: int) -> Floats:
    """Return one row for each cell: its size, and its session as a deviation that sums to zero."""
    design = np.zeros((len(cells), sizes + sessions - 1))
    for row, (session, size, _) in enumerate(cells):
        design[row, size] = 1.0
        if session < sessions - 1:
            design[row, sizes + session] = 1.0
        else:
            design[row, sizes:] = -1.0
    return design


def compute_level_errors(paired: PairedSizes) -> Floats:
    """Return the standard error v_k of each level, at least three of them.

    Errors of single levels that are independent have D_ij = v_i² + v_j², so the sums over the other
    sizes are R_i = Σ_j D_ij = (K − 2)·v_i² + Σ_j v_j², and all of them 2(K − 1)·Σ_j v_j².

    Source: derived.
    """
    count = len(paired.sizes)
    sums = np.square(paired.difference_errors).sum(axis=1)
    variances = (sums - sums.sum() / (2.0 * (count - 1))) / (count - 2)
    errors: Floats = np.sqrt(np.maximum(variances, 0.0))
    return errors


def smooth_upwards(levels: Floats, weights: Sequence[float]) -> Floats:
    """Return the nearest levels that never fall: runs that do are replaced by their mean.

    Where the truth is flat, this keeps the luckiest size from posing as the best one.

    Args:
        levels: In order of size.
        weights: Of each level, above 0.

    Source: pool-adjacent-violators (Ayer et al. 1955).
    """
    blocks: list[tuple[float, float, int]] = []
    for level, weight in zip(levels.tolist(), weights, strict=True):
        block = (level, float(weight), 1)
        while blocks and blocks[-1][0] > block[0]:
            before = blocks.pop()
            total = before[1] + block[1]
            mean = (before[0] * before[1] + block[0] * block[1]) / total
            block = (mean, total, before[2] + block[2])
        blocks.append(block)
    return np.repeat([block[0] for block in blocks], [block[2] for block in blocks])
