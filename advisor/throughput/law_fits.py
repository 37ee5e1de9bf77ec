"""Every law of step time that the timed sizes allow (law.py); all coefficients are at least 0."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from advisor.statistics import student_t_quantile
from advisor.throughput.law import Floats, Kind, StepLaw, evaluate_step_law

#: Ratio of two neighbouring tiles that are tried. A tile a hundredth off moves the throughput at
#: the end of a tread by as much: a fifth of the tolerance of the saturation batch.
_TILE_RATIO = 1.01
#: Of the test that a law's misfit is no more than noise. High, since a true law that is left out
#: may take the truth out of the interval, while a wrong one only makes it wider.
_CONFIDENCE = 0.99
#: Root mean square of the misfit that is harmless whatever the noise: a tenth of the tolerance of
#: the saturation batch.
_SERVING_MISFIT = 0.005
#: Coefficients of each kind, for the test; the tile and the place of the floor's end are two. One
#: more where treads slope: where a sample costs something beyond its tile.
_COEFFICIENTS: dict[Kind, int] = {"affine": 2, "floor": 3, "curved": 3, "stairs": 3}
#: By how much the squared misfit over the squared error must be less than the affine law's for
#: another kind to be likelier: about 1 % of affine cases (chi squared with the coefficients more),
#: and a dozen of different tiles at which stairs may be lucky.
_HANDICAPS: dict[Kind, float] = {"affine": 0.0, "floor": 7.0, "curved": 7.0, "stairs": 11.0}
#: The same for treads that slope, against level ones: a slope that is but noise moves the fixed
#: cost, and with it the answer by whole treads.
_SLOPE_HANDICAP = 7.0
#: Added to the products of columns of length 1, so that two equal ones can be solved for.
_RIDGE = 1e-12
#: One-sided confidence that a curvature must have before it enters the smooth law. High, because a
#: wrong one bends the law most where it is asked: beyond the timed sizes.
_CURVATURE_CONFIDENCE = 0.995
#: Least share of the largest size's step time that the curvature must explain; less is harmless.
_LEAST_CURVATURE_FRACTION = 0.02
#: Least growth of the step time over the sizes, as a share; less is rounding error.
_LEAST_GROWTH_FRACTION = 1e-9


class _Data(NamedTuple):
    """Sizes, the seconds of a step at each, its relative error, and one over that or the harmless.

    No time weighs more than one whose error is harmless: a law is never that true.
    """

    sizes: Floats
    times: Floats
    errors: Floats
    weights: Floats


def fit_step_laws(
    sizes: Sequence[int], step_s: Sequence[float], *, errors: npt.ArrayLike, degrees_of_freedom: int
) -> tuple[StepLaw, ...]:
    """Return every law that misses the sizes by no more than noise explains, the likeliest first.

    Empty where no law fits, or where time does not grow with the batch.

    Args:
        sizes: Micro-batch sizes, ascending.
        step_s: Seconds of a step at each.
        errors: Relative standard error of each, or of any one.
        degrees_of_freedom: Of the errors' common scale.

    Source: the F-test of lack of fit, Fisher 1922.
    """
    from scipy.special import fdtri  # noqa: PLC0415  # its import is slow; see statistics.py

    data = _collect(sizes, step_s, errors)
    laws = []
    for law in (*_fit_smooth(data), *_fit_floors(data), *_fit_stairs(data)):
        spare = len(sizes) - _COEFFICIENTS[law.kind] - law.slopes
        if spare < 1 or not _grows(law, data):
            continue
        misfits = _measure_misfits(law, data)
        squared = float(np.square(misfits * data.weights).sum())
        serves = float(np.square(misfits).mean()) <= _SERVING_MISFIT**2
        if serves or squared <= spare * float(fdtri(spare, degrees_of_freedom, _CONFIDENCE)):
            laws.append(_complete(law, data, squared))
    return tuple(sorted(laws, key=lambda law: law.deviance))


def fit_smooth_law(sizes: Sequence[int], step_s: Sequence[float]) -> StepLaw | None:
    """Return the affine law of least relative error, however well it fits; curved if that is plain.

    Relative, because the noise of a step time is about proportional to it. None where fewer than
    two sizes are known or where time does not grow with the batch.

    Source: Hockney's affine law; the curvature is the Universal Scalability Law's (Gunther 1993).
    """
    if len(sizes) < 2:
        return None
    data = _collect(sizes, step_s, 0.0)
    law, *others = _fit_smooth(data)
    for curved in others if len(sizes) >= 5 else ():
        explained = curved.curvature * max(sizes) ** 2 / max(step_s)
        if explained >= _LEAST_CURVATURE_FRACTION and _is_surely_better(curved, law, data):
            law = curved
    return law if _grows(law, data) else None


def fit_coefficients(sizes: Sequence[int], step_s: Sequence[float], *, columns: int) -> Floats:
    """Return the coefficients of 1, b (and b²) of least relative error, of any sign."""
    times = np.asarray(step_s, dtype=np.float64)
    design = np.asarray(sizes, dtype=np.float64)[:, None] ** np.arange(columns) / times[:, None]
    lengths = np.linalg.norm(design, axis=0)  # scaled, for the solver's sake
    solution = np.linalg.lstsq(design / lengths, np.ones(len(times)), rcond=None)[0]
    coefficients: Floats = solution / lengths
    return coefficients


def _collect(sizes: Sequence[int], step_s: Sequence[float], errors: npt.ArrayLike) -> _Data:
    known = np.broadcast_to(np.asarray(errors, np.float64), len(sizes))
    weights = 1.0 / np.maximum(known, _SERVING_MISFIT / 2.0)
    return _Data(np.asarray(sizes, np.float64), np.asarray(step_s, np.float64), known, weights)


def _fit_smooth(data: _Data) -> Iterator[StepLaw]:
    """Yield the best affine law, and the best curved one if there is any."""
    line = np.stack([np.ones_like(data.sizes), data.sizes])
    fixed_s, per_sample_s = _fit_columns(data, line[None])[0]
    yield StepLaw(kind="affine", fixed_s=fixed_s, per_sample_s=per_sample_s)
    curve = np.stack([*line, np.square(data.sizes)])
    fixed_s, per_sample_s, curvature = _fit_columns(data, curve[None])[0]
    if curvature > 0.0:
        yield StepLaw(
            kind="curved", fixed_s=fixed_s, per_sample_s=per_sample_s, curvature=curvature
        )


def _fit_floors(data: _Data) -> Iterator[StepLaw]:
    """Yield the best law for each size at which the floor may end."""
    for end in range(2, len(data.sizes) - 1):
        head = _Data(*(column[:end] for column in data))
        tail = _Data(*(column[end:] for column in data))
        squares = np.square(head.weights) / head.times
        line = np.stack([np.ones_like(tail.sizes), tail.sizes])
        fixed_s, per_sample_s = _fit_columns(tail, line[None])[0]
        yield StepLaw(
            kind="floor",
            floor_s=float(squares.sum() / (squares / head.times).sum()),
            fixed_s=fixed_s,
            per_sample_s=per_sample_s,
        )


def _fit_stairs(data: _Data) -> Iterator[StepLaw]:
    """Yield the best stairs of each tile: with level treads, and with sloping ones if they do."""
    tiles = _choose_tiles(data.sizes)
    treads = np.ceil(data.sizes / tiles[:, None] - 1e-9)
    ones, slopes = np.ones_like(treads), np.broadcast_to(data.sizes, treads.shape)
    level = _fit_columns(data, np.stack([ones, treads], axis=1))
    sloping = _fit_columns(data, np.stack([ones, treads, slopes], axis=1))
    for tile, fits in zip(tiles.tolist(), zip(level, sloping, strict=True), strict=True):
        for fixed_s, per_tile_s, *slope in fits:
            if per_tile_s > 0.0 and slope != [0.0]:
                yield StepLaw(
                    kind="stairs", fixed_s=fixed_s, per_sample_s=sum(slope), per_tile_s=per_tile_s,
                    tile=tile,
                )  # fmt: skip


def _choose_tiles(sizes: Floats) -> Floats:
    """Return whole tiles between 2 and the largest size, at about a fixed ratio."""
    largest = float(sizes[-1])
    if largest <= 2.0:
        return np.zeros(0)
    count = 1 + math.ceil(math.log(largest / 2.0) / math.log(_TILE_RATIO))
    return np.unique(np.round(np.geomspace(2.0, largest - 1.0, count)))


def _fit_columns(data: _Data, columns: Floats) -> list[list[float]]:
    """Return the best non-negative coefficients of the columns, one set for each row.

    Every subset of the columns is solved without constraint; the best of those without a negative
    coefficient solves the constrained problem.
    """
    rows, width, _ = columns.shape
    design = np.swapaxes(columns * (data.weights / data.times), 1, 2)
    lengths = np.linalg.norm(design, axis=1)
    design = design / lengths[:, None, :]
    products, sums = np.swapaxes(design, 1, 2) @ design, data.weights @ design
    best, residual = np.zeros_like(lengths), np.full(rows, math.inf)
    for count in range(1, 1 + width):
        for subset in itertools.combinations(range(width), count):
            chosen = products[:, subset][:, :, subset] + _RIDGE * np.eye(count)
            solution = np.linalg.solve(chosen, sums[:, subset, None])[..., 0]
            fitted = (design[:, :, subset] @ solution[..., None])[..., 0]
            left = np.square(data.weights - fitted).sum(axis=-1)
            better = (solution >= 0.0).all(axis=-1) & (left < residual)
            residual[better] = left[better]
            best[better] = 0.0
            best[np.ix_(better, subset)] = solution[better]
    coefficients: list[list[float]] = (best / lengths).tolist()
    return coefficients


def _measure_misfits(law: StepLaw, data: _Data) -> Floats:
    """Return by how much the law misses each time, as a share."""
    misfits: Floats = 1.0 - evaluate_step_law(law, data.sizes) / data.times
    return misfits


def _is_surely_better(curved: StepLaw, line: StepLaw, data: _Data) -> bool:
    """Return whether the curvature is above zero by a t-test."""
    degrees = len(data.sizes) - 3
    left, before = (float(np.square(_measure_misfits(law, data)).sum()) for law in (curved, line))
    return (before - left) * degrees > left * student_t_quantile(
        _CURVATURE_CONFIDENCE, degrees
    ) ** 2


def _grows(law: StepLaw, data: _Data) -> bool:
    first_s, last_s = evaluate_step_law(law, data.sizes[[0, -1]]).tolist()
    grown = last_s - first_s > _LEAST_GROWTH_FRACTION * last_s
    return law.per_sample_s + law.per_tile_s > 0.0 and bool(grown)


def _complete(law: StepLaw, data: _Data, squared: float) -> StepLaw:
    """Return the law with its error and its deviance.

    The error is that of two columns: the fixed cost, and all that grows with the batch.
    """
    above = evaluate_step_law(law, data.sizes) > law.floor_s
    sizes, fixed = data.sizes[above], data.weights[above] / data.times[above]
    grown = (evaluate_step_law(law, sizes) - law.fixed_s) * fixed
    determinant = float((fixed @ fixed) * (grown @ grown) - (fixed @ grown) ** 2)
    variance = float(grown @ grown) / determinant if determinant > 0.0 else 0.0
    typical = float(np.square(data.errors * data.weights).mean())
    error = math.sqrt(max(typical, squared / len(data.sizes)))
    return msgspec.structs.replace(
        law,
        fixed_error_s=error * math.sqrt(variance),
        deviance=squared + _HANDICAPS[law.kind] + _SLOPE_HANDICAP * law.slopes,
    )
