"""Throughput of every size, compared within sessions.

Legend: x_sk is the log throughput of size k in session s (the median over its blocks), modelled as
x_sk = μ_k + u_s + e_sk. What makes a whole session fast or slow (clocks, memory layout, neighbours)
is u_s and cancels when two sizes are compared; only e_sk, pooled over all sizes, is noise.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from advisor.throughput.law import Floats


class PairedSizes(NamedTuple):
    """K sizes on one scale, session effects taken out.

    Attributes:
        log_throughput: K levels μ_k, in log samples/s of an average session.
        difference_errors: K×K standard errors of μ_i − μ_j.
        degrees_of_freedom: Of the pooled noise; at least 1.
    """

    sizes: tuple[int, ...]
    log_throughput: Floats
    difference_errors: Floats
    degrees_of_freedom: int

    @property
    def step_s(self) -> list[float]:
        """Seconds of a step at each size in an average session."""
        seconds: list[float] = (np.asarray(self.sizes) / np.exp(self.log_throughput)).tolist()
        return seconds


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
    count, last = len(sizes), len(step_s) - 1
    rows, levels = [], []
    for session, times in enumerate(step_s.values()):
        for size, seconds in sorted(times.items()):
            row = np.zeros(count + max(last, 0))
            row[sizes.index(size)] = 1.0
            # A session is a deviation; all of them sum to zero.
            row[count:] = -1.0 if session == last else np.arange(last) == session
            rows.append(row)
            levels.append(np.log(size / seconds))
    if not rows:
        return None
    design = np.stack(rows)
    degrees = len(rows) - design.shape[1]
    if degrees < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    solution = np.linalg.lstsq(design, np.array(levels), rcond=None)[0]
    residuals = np.array(levels) - design @ solution
    inverse = np.linalg.inv(design.T @ design)
    covariance = float(residuals @ residuals) / degrees * inverse[:count, :count]
    variances = np.diag(covariance)
    squared = variances[:, None] + variances[None, :] - 2.0 * covariance
    return PairedSizes(
        sizes=tuple(sizes),
        log_throughput=solution[:count],
        difference_errors=np.sqrt(np.maximum(squared, 0.0)),
        degrees_of_freedom=degrees,
    )


def compute_level_errors(paired: PairedSizes) -> Floats:
    """Return the standard error of each level, at least three of them (docs/method.md)."""
    count = len(paired.sizes)
    sums = np.square(paired.difference_errors).sum(axis=1)
    variances = (sums - sums.sum() / (2.0 * (count - 1))) / (count - 2)
    errors: Floats = np.sqrt(np.maximum(variances, 0.0))
    return errors
