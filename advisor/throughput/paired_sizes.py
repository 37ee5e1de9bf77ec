"""Seconds of a step at every size, compared within sessions.

The log of the seconds at size k in session s is x_sk = μ_k + u_s + e_sk. What makes a whole session
fast or slow is u_s and cancels when two sizes are compared; only e_sk, pooled over all, is noise.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from advisor.statistics import Estimate, two_sided_t
from advisor.throughput.step_law import Floats

#: Times the scatter beyond which a residual counts for less: its size was disturbed.
_OUTLIER_SCATTERS = 2.5
#: Least scatter, in log seconds: rounding.
_LEAST_SCATTER = 1e-9
#: Median of the absolute residual of one standard deviation.
_NORMAL_MEDIAN = 0.6745
#: Weight of a residual that is slow, beside one that is fast.
_SLOW_WEIGHT = 0.6
_STARTING_ROUNDS, _ROUNDS = 40, 10
#: Relative error of sizes that no two sessions compare: it shows nowhere.
_UNSHOWN_ERROR = 0.005
#: Sessions from which on two sizes are compared by these alone.
_LEAST_COMPARED = 4


def find_half(sizes: Sequence[int]) -> int:
    """Return the size nearest to half of the largest, the last of those that ascend."""
    return min(sizes, key=lambda size: abs(size - sizes[-1] / 2.0))


class PairedSizes(NamedTuple):
    """K sizes on one scale, session effects taken out."""

    sizes: tuple[int, ...]
    #: K levels exp(μ_k), in seconds of an average session.
    step_s: tuple[float, ...]
    #: Relative standard errors of the levels, independent of each other.
    errors: tuple[float, ...]
    #: Of the pooled noise; 0 where no two sessions show any.
    degrees_of_freedom: int
    #: As they were: seconds of a step by size, in each session.
    sessions: tuple[Mapping[int, float], ...] = ()

    def compare(self, size: int, other: int) -> Estimate | None:
        """Return log t(other) − log t(size) by the sessions that timed both; None of too few."""
        logs = [
            math.log(times[other] / times[size])
            for times in self.sessions
            if size in times and other in times
        ]
        if len(logs) < _LEAST_COMPARED:
            return None
        error = max(statistics.stdev(logs), _UNSHOWN_ERROR) / math.sqrt(len(logs))
        mean, half = statistics.fmean(logs), two_sided_t(0.95, len(logs) - 1) * error
        return Estimate(mean, mean - half, mean + half)


def pair_sizes(step_s: Mapping[int, Mapping[int, float]]) -> PairedSizes:
    """Return all sizes on one scale, from the seconds of a step by session and micro-batch size.

    Sessions that share too few sizes to be compared leave each size its fastest step.

    Source: two-way additive analysis of variance (Fisher 1925), fitted by reweighted least squares
    (Beaton and Tukey 1974).
    """
    timed = [
        (session, size, seconds)
        for session, times in enumerate(step_s.values())
        for size, seconds in sorted(times.items())
    ]
    sizes, sessions = sorted({size for _, size, _ in timed}), (*step_s.values(),)
    count, last = len(sizes), max(len(sessions) - 1, 0)
    # A session is a deviation; all of them sum to zero.
    deviations = np.concatenate([np.eye(last), -np.ones((1, last))])
    places = [sizes.index(size) for _, size, _ in timed]
    owners = [session for session, _, _ in timed]
    design = np.concatenate([np.eye(count)[places], deviations[owners]], axis=1)
    degrees = len(timed) - count - last
    if degrees < 1 or count < 2 or np.linalg.matrix_rank(design) < count + last:
        fastest = (min(each[size] for each in sessions if size in each) for size in sizes)
        return PairedSizes(tuple(sizes), tuple(fastest), (_UNSHOWN_ERROR,) * count, 0, sessions)
    solution, variance = _fit_robustly(design, np.log([each[2] for each in timed]), degrees)
    covariance: Floats = np.asarray(np.linalg.inv(design.T @ design)[:count, :count], np.float64)
    return PairedSizes(
        sizes=tuple(sizes),
        step_s=tuple(np.exp(solution[:count]).tolist()),
        errors=tuple(_separate_errors(variance * covariance).tolist()),
        degrees_of_freedom=degrees,
        sessions=sessions,
    )


def _fit_robustly(design: Floats, levels: Floats, degrees: int) -> tuple[Floats, float]:
    """Return the coefficients, and the variance of the residuals that outliers do not enlarge.

    First by quantiles, slow residuals weighing less: where a session is slow from its middle on,
    its effect is that of its undisturbed half. Then by least squares without what is far from that.
    """
    weights = np.ones(len(levels))
    for count in range(_STARTING_ROUNDS + _ROUNDS):
        weighed = design * weights[:, None]
        solution = np.linalg.solve(weighed.T @ design, weighed.T @ levels)
        residuals = levels - design @ solution
        size = np.abs(residuals)
        # As many residuals as there are coefficients may vanish whatever the noise.
        scatter = float(np.median(np.sort(size)[-degrees:])) / _NORMAL_MEDIAN
        limit = _OUTLIER_SCATTERS * max(scatter, _LEAST_SCATTER)
        if count < _STARTING_ROUNDS:
            weights = np.where(residuals > 0.0, _SLOW_WEIGHT, 1.0) / np.maximum(size, 1e-3 * limit)
        else:
            weights = np.square(np.minimum(limit / np.maximum(size, limit), 1.0))
    inside = float(np.mean(size <= limit))
    squared = float(np.square(np.minimum(size, limit)).sum())
    return np.asarray(solution, np.float64), squared / degrees / inside**2


def _separate_errors(covariance: Floats) -> Floats:
    """Return the error of each level without what all have in common (docs/method.md)."""
    variances = np.diag(covariance)
    squared = variances[:, None] + variances[None, :] - 2.0 * covariance
    count = len(variances)
    if count == 2:
        return np.full(2, np.sqrt(squared[0, 1] / 2.0))
    sums = squared.sum(axis=1)
    own = (sums - sums.sum() / (2.0 * (count - 1))) / (count - 2)
    errors: Floats = np.sqrt(np.maximum(own, 0.0))
    return errors
