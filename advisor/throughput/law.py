"""The laws that step time may follow, and where each saturates.

    affine   t(b) = a + βb
    floor    t(b) = max(h, a + βb)          the host, or a device not yet full, needs h
    curved   t(b) = a + βb + cb²            throughput falls beyond sqrt(a/c)
    stairs   t(b) = a + βb + γ·⌈b/w⌉        a tile of w samples that has begun costs a whole one

     t |            .----          On stairs throughput jumps up along a tread and falls back at a
       |       .----               riser: sizes between two that were timed may be faster than both,
       |  .----                    and the smallest good one is mostly the end of a tread.
       +--+----+----+--- b

All coefficients are at least 0. Derivations: docs/method.md, section 1.
"""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Kind = Literal["affine", "floor", "curved", "stairs"]


class StepLaw(msgspec.Struct, frozen=True, kw_only=True):
    """The law t(b) = max(floor_s, fixed_s + per_sample_s·b + per_tile_s·⌈b/tile⌉ + curvature·b²).

    Attributes:
        fixed_error_s: Standard error of the fixed cost.
        deviance: Squared relative misfit over the squared error, and the kind's handicap: the least
            is the likeliest.
    """

    kind: Kind
    fixed_s: float
    per_sample_s: float
    per_tile_s: float = 0.0
    tile: float = 1.0
    curvature: float = 0.0
    floor_s: float = 0.0
    fixed_error_s: float = 0.0
    deviance: float = 0.0

    @property
    def slopes(self) -> bool:
        """Whether it is stairs whose treads cost more at their end."""
        return self.kind == "stairs" and self.per_sample_s > 0.0


def evaluate_step_law(law: StepLaw, micro_batch_size: npt.ArrayLike) -> Floats:
    """Return the law's seconds of a step at each size."""
    size = np.asarray(micro_batch_size, dtype=np.float64)
    tiles = np.ceil(size / law.tile - 1e-9)
    smooth = law.fixed_s + law.per_sample_s * size + law.curvature * np.square(size)
    seconds: Floats = np.maximum(law.floor_s, smooth + law.per_tile_s * tiles)
    return seconds


def compute_best_per_s(law: StepLaw) -> float:
    """Return the highest throughput of the law: its peak, or what ever larger batches approach."""
    curved_s = 2.0 * math.sqrt(law.fixed_s * law.curvature)
    return 1.0 / (law.per_sample_s + law.per_tile_s / law.tile + curved_s)


def predict_law_saturation(law: StepLaw, tolerance_fraction: float) -> float:
    """Return the smallest batch at which the law is within the tolerance of its best.

    On stairs the first tread that reaches it is the k-th, k = ⌈(1−ε)/ε · a/(βw + γ)⌉: the affine
    answer in whole tiles. On a floor it is reached before the floor ends if a ≤ ε·h.
    """
    kept = 1.0 - tolerance_fraction
    least_s = 1.0 / (kept * compute_best_per_s(law))
    if law.kind == "stairs":
        tile_s = law.per_sample_s * law.tile + law.per_tile_s
        tread = max(1, math.ceil(kept / tolerance_fraction * law.fixed_s / tile_s - 1e-9))
        on_tread = (law.fixed_s + law.per_tile_s * tread) / (least_s - law.per_sample_s)
        return max(on_tread, (tread - 1) * law.tile + 1.0)
    slack = least_s - law.per_sample_s
    root = math.sqrt(max(slack**2 - 4.0 * law.curvature * law.fixed_s, 0.0))
    return max(2.0 * law.fixed_s / (slack + root), law.floor_s / least_s, 1.0)


def find_tread_end(law: StepLaw, micro_batch_size: float) -> int:
    """Return the largest size that costs no more tiles than the given one."""
    return math.floor(math.ceil(micro_batch_size / law.tile - 1e-9) * law.tile + 1e-9)


def bound_saturation(
    laws: Sequence[StepLaw], tolerance_fraction: float, quantile: float
) -> tuple[float, float]:
    """Return the least and the largest saturation batch of the laws, errors to either side."""
    batches = [
        predict_law_saturation(
            msgspec.structs.replace(law, fixed_s=max(law.fixed_s + shift * law.fixed_error_s, 0.0)),
            tolerance_fraction,
        )
        for law in laws
        for shift in (-quantile, quantile)
    ]
    return min(batches), max(batches)
