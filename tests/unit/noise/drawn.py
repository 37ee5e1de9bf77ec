"""Gradients drawn from a Gaussian regression, whose noise scale is known in closed form."""

import math

import numpy as np

from advisor.noise.data import NoiseBatches
from advisor.training.data import WorkloadFacts
from benchmarks.gaussian_regression import pool_moments

GROUPS = 16
FACTS = WorkloadFacts(
    file="model.py", model_name="Net", how_model="", how_loss="", how_optimizer="", how_batch="",
    has_dataset=True, loss_reduction="mean",
)  # fmt: skip


def draw_gradients(count, *, noise_scale=60.0, dimension=20, seed=0, finite=None):
    """Return per-sample gradients of a Gaussian regression, and their |G|²."""
    spectrum = np.arange(1, dimension + 1, dtype=float) ** -1.0
    offset = np.random.default_rng(11).standard_normal(dimension)
    sqnorm = float(np.sum((spectrum * offset) ** 2))
    variance = (noise_scale - 1.0) * sqnorm / spectrum.sum() - float(spectrum @ offset**2)
    assert variance > 0.0
    generator = np.random.default_rng(seed)
    inputs = generator.standard_normal((finite or count, dimension)) * np.sqrt(spectrum)
    residuals = inputs @ offset - math.sqrt(variance) * generator.standard_normal(finite or count)
    return inputs * residuals[:, None], sqnorm


def split(gradients, sizes, *, at_step=0, metric=None, groups=GROUPS):
    """Return what a worker reports of per-sample gradients cut into micro-batches."""
    ends = np.cumsum(sizes)
    assert ends[-1] <= len(gradients)
    means = np.stack([part.mean(axis=0) for part in np.split(gradients[: ends[-1]], ends[:-1])])
    labels = [index % groups for index in range(len(sizes))]
    adapted = None if metric is None else pool_moments(means * np.sqrt(metric), sizes, labels)
    return NoiseBatches(
        at_step=at_step,
        loss=1.0,
        micro_batch_sizes=tuple(sizes),
        groups=tuple(labels),
        plain=pool_moments(means, sizes, labels),
        preconditioned=adapted,
    )


def along(scales, *, samples=1600, metric=None, steps=None):
    return [
        split(
            draw_gradients(samples, noise_scale=scale, seed=index)[0],
            [16] * (samples // 16),
            at_step=steps[index] if steps else 50 * index,
            metric=metric,
        )
        for index, scale in enumerate(scales)
    ]
