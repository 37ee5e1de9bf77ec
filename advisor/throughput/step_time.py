"""The law of step time over micro-batch size, and a curve that prefers what was measured.

Legend: b is the micro-batch size in samples, t(b) = a + βb + cb² the seconds of one step: a is the
fixed cost, β the cost of a sample, c a curvature that is zero unless it is plain to see.
Throughput is b/t(b); a/β is the batch at which it reaches half of its limit 1/β.
"""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from advisor.statistics import student_t_quantile

Floats = npt.NDArray[np.float64]
Basis = Literal["measured", "interpolated", "extrapolated"]

#: One-sided confidence that the curvature must have before it enters the law. High, because a wrong
#: curvature bends the law most where it is asked: beyond the measured sizes.
_CURVATURE_CONFIDENCE = 0.995
#: Least share of the largest size's step time that the curvature must explain; less is harmless.
_LEAST_CURVATURE_FRACTION = 0.02
#: Cost of a sample, as a share of the step time at the largest size, below which time does not grow
#: with the batch for any practical purpose, and β is rounding error.
_LEAST_GROWTH_FRACTION = 1e-9


class StepTimeLaw(msgspec.Struct, frozen=True, kw_only=True):
    """The law t(b) = fixed_s + per_sample_s·b + curvature·b².

    Attributes:
        fixed_s: Seconds of a step whatever its size; at least 0.
        per_sample_s: Seconds that each sample adds; above 0.
        curvature: Seconds for each sample squared; 0 unless clearly positive, and then throughput
            falls beyond the batch sqrt(fixed_s / curvature).
    """

    fixed_s: float
    per_sample_s: float
    curvature: float = 0.0


class StepTimeCurve(msgspec.Struct, frozen=True, kw_only=True):
    """Measured step times, and the law that goes on beyond them.

    Attributes:
        sizes: Micro-batch sizes, ascending.
        step_s: Seconds of a step at each.
        law: None where the sizes do not determine one; then nothing is known beyond them.
    """

    sizes: tuple[int, ...]
    step_s: tuple[float, ...]
    law: StepTimeLaw | None


class PredictedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step time and what it rests on."""

    step_s: float
    basis: Basis


def fit_step_time(sizes: Sequence[int], step_s: Sequence[float]) -> StepTimeLaw | None:
    """Return the law that fits the step times with the least relative error, or None.

    Relative errors, because the noise of a step time is about proportional to it: with absolute
    errors the largest sizes alone would decide the fixed cost. None where fewer than two sizes are
    known or where time does not grow with the batch.

    Args:
        sizes: Micro-batch sizes, in samples, all different.
        step_s: Seconds of a step at each, all above 0.

    Source: Hockney's affine law, by weighted least squares; the curvature is the Universal
    Scalability Law's (Gunther 1993).
    """
    if len(sizes) < 2:
        return None
    affine = fit_coefficients(sizes, step_s, curved=False)
    if len(sizes) >= 5:
        curved = fit_coefficients(sizes, step_s, curved=True)
        if _is_plainly_curved(curved, sizes, step_s):
            return StepTimeLaw(
                fixed_s=float(curved[0]), per_sample_s=float(curved[1]), curvature=float(curved[2])
            )
    fixed_s, per_sample_s = float(affine[0]), float(affine[1])
    if fixed_s < 0.0:
        ratios = np.asarray(sizes, dtype=np.float64) / np.asarray(step_s)
        fixed_s, per_sample_s = 0.0, float(ratios.sum() / np.square(ratios).sum())
    if per_sample_s * max(sizes) <= _LEAST_GROWTH_FRACTION * max(step_s):
        return None
    return StepTimeLaw(fixed_s=fixed_s, per_sample_s=per_sample_s)


def fit_coefficients(sizes: Sequence[int], step_s: Sequence[float], *, curved: bool) -> Floats:
    """Return (a, β), or (a, β, c) if curved, of least relative error, signs not constrained.

    Args:
        sizes: Micro-batch sizes, in samples; at least as many as there are coefficients.
        step_s: Seconds of a step at each.
        curved: Whether to fit c as well.

    Source: derived; weighted least squares.
    """
    design, scale = _relative_design(sizes, step_s, 3 if curved else 2)
    solution = np.linalg.lstsq(design, np.ones(len(sizes)), rcond=None)[0]
    coefficients: Floats = solution / scale
    return coefficients


def evaluate_step_time(law: StepTimeLaw, micro_batch_size: float) -> float:
    """Return the law's seconds of a step at that size.

    Source: Hockney's affine law with Gunther's curvature.
    """
    slope = law.per_sample_s + law.curvature * micro_batch_size
    return law.fixed_s + slope * micro_batch_size


def find_peak_batch(law: StepTimeLaw) -> float:
    """Return the batch of the law's highest throughput; infinite without curvature.

    Source: derived; d/db of b/(a + βb + cb²) is zero at b² = a/c.
    """
    return math.sqrt(law.fixed_s / law.curvature) if law.curvature > 0.0 else math.inf


def predict_saturation_batch(law: StepTimeLaw, tolerance_fraction: float) -> float:
    """Return the smallest batch at which the law is within the tolerance of its best throughput.

    For the affine law this is a/β·(1−ε)/ε: 19 times a/β at 5 %.

    Args:
        law: The law.
        tolerance_fraction: ε, between 0 and 1.

    Source: derived; the smaller root of t(b) = b·t*/(1−ε), t* the least seconds for each sample.
    """
    least_s_per_sample = law.per_sample_s + 2.0 * math.sqrt(law.fixed_s * law.curvature)
    slack = least_s_per_sample / (1.0 - tolerance_fraction) - law.per_sample_s
    root = math.sqrt(max(slack**2 - 4.0 * law.curvature * law.fixed_s, 0.0))
    return 2.0 * law.fixed_s / (slack + root)


def build_step_time_curve(sizes: Sequence[int], step_s: Sequence[float]) -> StepTimeCurve:
    """Return the curve through measured step times, with its law.

    Args:
        sizes: Micro-batch sizes, in samples, all different, in any order.
        step_s: Seconds of a step at each.

    Source: derived.
    """
    pairs = sorted(zip(sizes, step_s, strict=True))
    ordered = tuple(size for size, _ in pairs)
    times = tuple(seconds for _, seconds in pairs)
    return StepTimeCurve(sizes=ordered, step_s=times, law=fit_step_time(ordered, times))


def predict_step(curve: StepTimeCurve, micro_batch_size: float) -> PredictedStep | None:
    """Return the step time at any size, and whether it was measured, interpolated, extrapolated.

    Between measured sizes the time is linear in the size, which is exact for the affine law. Beyond
    them the law goes on from the nearest measured time, so that the curve has no jump. None where
    nothing was measured, or beyond the sizes without a law.

    Args:
        curve: From `build_step_time_curve`.
        micro_batch_size: In samples, above 0.

    Source: derived.
    """
    if not curve.sizes:
        return None
    if micro_batch_size in curve.sizes:
        index = curve.sizes.index(int(micro_batch_size))
        return PredictedStep(step_s=curve.step_s[index], basis="measured")
    if curve.sizes[0] < micro_batch_size < curve.sizes[-1]:
        between = float(np.interp(micro_batch_size, curve.sizes, curve.step_s))
        return PredictedStep(step_s=between, basis="interpolated")
    if curve.law is None:
        return None
    end = 0 if micro_batch_size < curve.sizes[0] else -1
    anchor = curve.step_s[end] / evaluate_step_time(curve.law, curve.sizes[end])
    beyond = anchor * evaluate_step_time(curve.law, micro_batch_size)
    return PredictedStep(step_s=beyond, basis="extrapolated")


def predict_step_s(curve: StepTimeCurve, micro_batch_size: float) -> float | None:
    """Return the seconds of a step at any size; see `predict_step`.

    Source: derived.
    """
    predicted = predict_step(curve, micro_batch_size)
    return None if predicted is None else predicted.step_s


def _relative_design(
    sizes: Sequence[int], step_s: Sequence[float], columns: int
) -> tuple[Floats, Floats]:
    """Return the columns b^k/t, each scaled to length 1 for the solver's sake, and the lengths."""
    powers = np.asarray(sizes, dtype=np.float64)[:, None] ** np.arange(columns)
    design = powers / np.asarray(step_s, dtype=np.float64)[:, None]
    lengths = np.linalg.norm(design, axis=0)
    return design / lengths, lengths


def _is_plainly_curved(curved: Floats, sizes: Sequence[int], step_s: Sequence[float]) -> bool:
    """Return whether c is surely above zero, large enough to matter, and a and β make sense."""
    fixed_s, per_sample_s, curvature = curved.tolist()
    share = curvature * max(sizes) ** 2 / max(step_s)
    if fixed_s < 0.0 or per_sample_s <= 0.0 or share < _LEAST_CURVATURE_FRACTION:
        return False
    design, scale = _relative_design(sizes, step_s, 3)
    degrees = len(sizes) - 3
    residuals = 1.0 - design @ (curved * scale)
    variance = float(residuals @ residuals) / degrees * np.linalg.pinv(design.T @ design)[2, 2]
    error = math.sqrt(max(float(variance), 0.0)) / float(scale[2])
    return bool(curvature > student_t_quantile(_CURVATURE_CONFIDENCE, degrees) * error)
