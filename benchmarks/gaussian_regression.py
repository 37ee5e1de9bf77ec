"""Worlds whose noise scale is known in closed form: linear regression on Gaussian inputs.

x ~ N(0, H), y = w*ᵀx + ξ with Var ξ = σ², loss ½(wᵀx − y)², δ = w − w*, q = δᵀHδ + σ²: the mean
gradient is Hδ and tr Σ = |Hδ|² + q·tr H, so φ = 1 + q·tr H/|Hδ|²; in a diagonal metric P it is
1 + q·tr PH/GᵀPG.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from advisor.noise.data import GradientMoments

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One world to estimate in.

    Attributes:
        name: What is special about it.
        dimension: Parameters.
        decay: H has the eigenvalues k^−decay.
        noise_scale: φ; sets σ².
        samples_per_noise_scale: n/φ.
        sizes: Micro-batch sizes, repeated until n is reached.
        heavy_tails: ξ is Student t with 5 degrees of freedom instead of normal.
        sum_loss: Gradients are of a sum over the micro-batch, divided by b_k afterwards.
        power: The metric is H^power; 0 is Euclidean.
        dataset_size: Draw without replacement from so many samples; None is endless data.
        enough: Look after 1, 2, 4, ... rounds of one micro-batch in each group, and stop at so many
            times the noise scale seen so far, as the worker does; None draws all n.
        accumulation: So many micro-batches add up into one gradient.
        tokens_per_sample: What is drawn are tokens, of which a sample has so many on average, and
            the micro-batches are ragged in tokens, not in samples; None draws samples.
        log_steps: The samples are those of so many steps of a real run, of which only each step's
            squared norms are known; None is the worker's own measurement.
        effort: Multiplies the number of seeds, where few samples make the bias hard to see.
    """

    name: str
    dimension: int = 30
    decay: float = 1.0
    noise_scale: float = 200.0
    samples_per_noise_scale: float = 4.0
    sizes: tuple[int, ...] = (16,)
    heavy_tails: bool = False
    sum_loss: bool = False
    power: float = 0.0
    dataset_size: int | None = None
    enough: float | None = None
    accumulation: int = 1
    tokens_per_sample: float | None = None
    log_steps: int | None = None
    effort: int = 1


@dataclass(frozen=True, kw_only=True)
class World:
    """The closed form behind a setting."""

    spectrum: Floats
    offset: Floats
    noise_std: float
    gradient_sqnorm: float
    cov_trace: float


def make_world(setting: Setting) -> World:
    """Return the world of a setting, the same for every seed."""
    spectrum = np.arange(1, setting.dimension + 1, dtype=np.float64) ** -setting.decay
    offset = np.random.default_rng(7).standard_normal(setting.dimension)
    metric = spectrum**setting.power
    sqnorm = float(metric @ (spectrum * offset) ** 2)
    # φ = 1 + q·tr(PH)/GᵀPG fixes q = δᵀHδ + σ², which fixes σ².
    residual_variance = (setting.noise_scale - 1.0) * sqnorm / float(metric @ spectrum)
    noise_variance = residual_variance - float(spectrum @ offset**2)
    if noise_variance <= 0.0:
        raise ValueError(f"{setting.name}: no noise variance gives this noise scale")
    return World(
        spectrum=spectrum,
        offset=offset,
        noise_std=math.sqrt(noise_variance),
        gradient_sqnorm=sqnorm,
        cov_trace=sqnorm * setting.noise_scale,
    )


def draw_gradients(setting: Setting, world: World, count: int, seed: int) -> Floats:
    """Return `count` per-sample gradients, in the metric of the setting."""
    generator = np.random.default_rng(seed)
    inputs = generator.standard_normal((count, setting.dimension)) * np.sqrt(world.spectrum)
    noise = generator.standard_normal(count)
    if setting.heavy_tails:
        noise = generator.standard_t(5, count) * math.sqrt(3.0 / 5.0)
    residuals = inputs @ world.offset - world.noise_std * noise
    gradients: Floats = inputs * residuals[:, None] * world.spectrum ** (setting.power / 2.0)
    return gradients


def pool_moments(
    gradients: npt.ArrayLike, micro_batch_sizes: Sequence[int], groups: Sequence[int]
) -> GradientMoments:
    """Return the moments of micro-batch gradients that fit in memory as one table.

    Args:
        gradients: K×P, the mean gradient of each micro-batch; for a diagonal metric P multiply
            them by its square root first.
        micro_batch_sizes: b_k, samples of each micro-batch.
        groups: Jackknife group of each micro-batch, from 0.
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
