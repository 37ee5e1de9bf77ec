"""One law of step time, never decreasing in the batch, with the covariance of what was fitted.

t(b) = x(b)·θ,  θ ≥ 0,  where x(b) is
affine   1, b
bent     1, min(b, k), max(b − k, 0)   a floor (the host, a device not yet full), a cliff of
                                       caches, or threads that join: a slope of its own each side
curved   1, b, b²
stairs   1, b, ⌈b/w⌉                   a tile of w samples that has begun costs a whole one
table    a line between timed sizes; beyond them like the smallest, or in proportion
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Kind = Literal["affine", "bent", "curved", "stairs", "table"]

#: Ratio of two neighbouring tiles, or bends, that are tried.
_TILE_RATIO, _BEND_RATIO = 1.01, 1.1
#: By how much the squared misfit over the squared error must be less for another kind: about 1 %
#: of affine cases by chance, and a dozen of bends or tiles that may be lucky.
_HANDICAPS: dict[Kind, float] = {"affine": 0.0, "curved": 7.0, "bent": 9.0, "stairs": 11.0}
#: The same for treads that slope, against level ones.
_SLOPE_HANDICAP = 7.0
#: Deviance beyond the likeliest law's of another that may be true: 1.4 % by chi squared.
_LIKELY_DEVIANCE = 6.0
#: Of laws as near as this the middle one is taken: sizes do not tell their tiles apart.
_EQUAL_DEVIANCE = 0.1
#: Relative error that no time is held to be better than: a law is never that true.
_LEAST_ERROR = 0.0025
#: Root mean square of the relative misfit beyond noise from which on no law stands.
_MOST_MISFIT = 0.02
#: Of the test that a misfit is more than noise (chi squared, errors taken for known).
_MISFIT_CONFIDENCE = 0.99
#: Added to products of columns of length 1, so that equal or empty ones can be solved for.
_RIDGE = 1e-12


class StepLaw(msgspec.Struct, frozen=True, kw_only=True):
    """The fitted law."""

    kind: Kind
    #: In seconds.
    coefficients: tuple[float, ...]
    #: Of the coefficients.
    covariance: tuple[tuple[float, ...], ...]
    #: The bend or the tile, in samples.
    parameter: float = 0.0
    #: Timed sizes of a table.
    knots: tuple[float, ...] = ()
    #: Root mean square by which the timed sizes miss it beyond their noise.
    misfit_fraction: float = 0.0
    #: Whether that is no more than noise.
    stands: bool = True

    def expand(self, sizes: npt.ArrayLike) -> Floats:
        """Return x(b) of each size, a row each."""
        return _expand(self.kind, self.parameter, np.asarray(sizes, np.float64), self.knots)

    def evaluate(self, sizes: npt.ArrayLike) -> Floats:
        """Return the seconds of a step at each size."""
        seconds: Floats = self.expand(sizes) @ np.asarray(self.coefficients)
        return seconds


class _Fit(NamedTuple):
    kind: Kind
    parameter: float
    coefficients: Floats
    squared: float

    @property
    def deviance(self) -> float:
        """Squared misfit over the squared error, and the kind's handicap."""
        slopes = self.kind == "stairs" and self.coefficients[1] > 0.0
        return self.squared + _HANDICAPS[self.kind] + _SLOPE_HANDICAP * slopes

    def count_spare(self, sizes: int) -> int:
        """Return how many of the sizes it left to judge it by."""
        return sizes - int(np.count_nonzero(self.coefficients)) - (self.parameter > 0.0)


def choose_law(
    laws: Sequence[StepLaw], sizes: Sequence[int], step_s: Sequence[float], errors: Sequence[float]
) -> StepLaw | None:
    """Return the first of the laws if it stands or is near, else a table; None without a size."""
    if laws and (laws[0].stands or laws[0].misfit_fraction <= _MOST_MISFIT):
        return laws[0]
    return tabulate(sizes, step_s, errors) if sizes else None


def fit_laws(
    sizes: Sequence[int],
    step_s: Sequence[float],
    errors: Sequence[float],
    *,
    kinds: Sequence[Kind] = ("affine", "bent", "curved", "stairs"),
) -> tuple[StepLaw, ...]:
    """Return the likeliest law, whether it stands or not, and those that are about as likely.

    Of each kind these are the best, and the ones with the least and the largest bend or tile. Sizes
    ascend; the errors of their seconds are relative, and independent of each other.
    """
    where, times = np.asarray(sizes, np.float64), np.asarray(step_s, np.float64)
    known, count = np.hypot(np.asarray(errors, np.float64), _LEAST_ERROR), len(sizes)
    fits = _fit_all(where, times, known, kinds) if count > 1 else []
    fits = [fit for fit in fits if fit.count_spare(count) >= min(1, count - 2)]
    if not fits:
        return ()
    least = min(fit.deviance for fit in fits)
    equal = [fit for fit in fits if fit.deviance <= least + _EQUAL_DEVIANCE]
    best = equal[len(equal) // 2]
    scale = max(1.0, best.squared / max(best.count_spare(count), 1))
    likely = [fit for fit in fits if fit.squared <= best.squared + _LIKELY_DEVIANCE * scale]
    chosen = {(best.kind, best.parameter): best}
    for _, group in itertools.groupby(likely, lambda fit: fit.kind):
        mine = [*group]
        for fit in (min(mine, key=lambda fit: fit.deviance), mine[0], mine[-1]):
            chosen[fit.kind, fit.parameter] = fit
    return tuple(_complete(fit, where, times, known, scale) for fit in chosen.values())


def _complete(fit: _Fit, sizes: Floats, times: Floats, errors: Floats, scale: float) -> StepLaw:
    """Return the law with errors larger by the scale; coefficients of zero count as known."""
    from scipy.special import chdtri  # noqa: PLC0415 - only where laws are fitted

    spare, used = max(fit.count_spare(len(sizes)), 1), fit.coefficients > 0.0
    columns = _expand(fit.kind, fit.parameter, sizes)
    missed = columns @ fit.coefficients / times - 1.0
    excess = float(np.mean(np.square(missed) - np.square(errors) * spare / len(sizes)))
    design = columns[:, used] / (times * errors)[:, None]
    lengths = np.linalg.norm(design, axis=0)
    inverse = np.linalg.pinv((design / lengths).T @ (design / lengths), hermitian=True)
    covariance = np.zeros((len(used), len(used)))
    covariance[np.ix_(used, used)] = scale * inverse / np.outer(lengths, lengths)
    return StepLaw(
        kind=fit.kind,
        parameter=fit.parameter,
        coefficients=tuple(fit.coefficients.tolist()),
        covariance=tuple(map(tuple, covariance.tolist())),
        misfit_fraction=math.sqrt(max(excess, 0.0)),
        stands=fit.squared <= float(chdtri(spare, 1.0 - _MISFIT_CONFIDENCE)),
    )


def tabulate(
    sizes: Sequence[int], step_s: Sequence[float], errors: Sequence[float] | None = None
) -> StepLaw:
    """Return the table of times, made to never decrease."""
    from scipy.optimize import isotonic_regression  # noqa: PLC0415 - no worker tabulates

    known = np.asarray([0.0] * len(sizes) if errors is None else errors, np.float64)
    weights = 1.0 / np.square(np.hypot(known, _LEAST_ERROR))
    levels = np.exp(isotonic_regression(np.log(step_s), weights=weights).x)
    return StepLaw(
        kind="table",
        knots=tuple(map(float, sizes)),
        coefficients=tuple(levels.tolist()),
        covariance=tuple(map(tuple, np.diag(np.square(known * levels)).tolist())),
    )


def _expand(kind: Kind, parameter: float, sizes: Floats, knots: Sequence[float] = ()) -> Floats:
    if kind == "table":
        last = knots[-1]
        inside = np.clip(sizes, knots[0], last)
        hats = np.stack([np.interp(inside, knots, row) for row in np.eye(len(knots))], axis=-1)
        return hats * np.maximum(sizes / last, 1.0)[..., None]
    one = np.ones_like(sizes)
    if kind == "bent":
        parts = (one, np.minimum(sizes, parameter), np.maximum(sizes - parameter, 0.0))
    elif kind == "stairs":
        parts = (one, sizes, np.ceil(sizes / parameter - 1e-9))
    else:
        parts = (one, sizes, np.square(sizes) if kind == "curved" else 0.0 * one)
    return np.stack(parts, axis=-1)


def _fit_all(sizes: Floats, times: Floats, errors: Floats, kinds: Sequence[Kind]) -> list[_Fit]:
    """Return the best law of every kind, bend and tile; only those that use what is their own."""
    first, last = float(sizes[0]), float(sizes[-1])
    parameters: dict[Kind, Floats] = {
        "affine": np.zeros(1),
        "curved": np.zeros(1),
        "bent": _space(first * _BEND_RATIO, last / _BEND_RATIO, _BEND_RATIO),
        "stairs": np.unique(np.round(_space(2.0, last - 1.0, _TILE_RATIO))),
    }
    tried = [(kind, float(each)) for kind in kinds for each in parameters[kind]]
    columns = np.stack([_expand(kind, parameter, sizes) for kind, parameter in tried])
    coefficients, squared = _fit_columns(columns / times[:, None], errors)
    return [
        _Fit(kind, parameter, fitted, float(misfit))
        for (kind, parameter), fitted, misfit in zip(tried, coefficients, squared, strict=True)
        if kind == "affine" or fitted[2] > 0.0
    ]


def _space(first: float, last: float, ratio: float) -> Floats:
    if last < first:
        return np.zeros(0)
    return np.geomspace(first, last, 2 + int(math.log(last / first) / math.log(ratio)))


def _fit_columns(columns: Floats, errors: Floats) -> tuple[Floats, Floats]:
    """Return the best non-negative coefficients of each set of columns, and its squared misfit.

    They are the best of every subset's own solution that has none below zero.
    """
    design, aim = columns / errors[:, None], 1.0 / errors
    lengths = np.maximum(np.linalg.norm(design, axis=1), 1e-300)
    design = design / lengths[:, None, :]
    products, sums = np.swapaxes(design, 1, 2) @ design, aim @ design
    best, residual = np.zeros_like(lengths), np.full(len(columns), math.inf)
    width = columns.shape[2]
    for count in range(1, 1 + width):
        for subset in itertools.combinations(range(width), count):
            chosen = products[:, subset][:, :, subset] + _RIDGE * np.eye(count)
            solution = np.linalg.solve(chosen, sums[:, subset, None])[..., 0]
            fitted = (design[:, :, subset] @ solution[..., None])[..., 0]
            left = np.square(aim - fitted).sum(axis=-1)
            better = (solution >= 0.0).all(axis=-1) & (left < residual - 1e-9)
            residual[better] = left[better]
            best[better] = 0.0
            best[np.ix_(better, subset)] = solution[better]
    return best / lengths, residual
