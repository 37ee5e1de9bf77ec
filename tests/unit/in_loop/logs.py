"""Logs of a training whose noise scale is known at each step."""

import math

import numpy as np

from advisor.noise.data import NoiseLogEntry
from advisor.noise.log import encode_entry

DIMENSION = 400


def write_lines(scales, *, samples=32, every=20, first=0, seed=0, **facts):
    """Return a line for each noise scale, of steps of four micro-batches."""
    generator = np.random.default_rng(seed)
    facts = {"estimator": "micro-batches", "learning_rate": 0.1, "optimizer": "SGD"} | facts
    lines = []
    for number, scale in enumerate(scales):
        deviation = math.sqrt(scale / DIMENSION / (samples / 4))
        means = generator.standard_normal((4, DIMENSION)) * deviation + DIMENSION**-0.5
        entry = NoiseLogEntry(
            at_step=first + every * number,
            samples=samples,
            micro_batches=4,
            micro_batch_sqnorm=float(np.square(means).sum(1).mean()),
            mean_sqnorm=float(np.square(means.mean(0)).sum()),
        )
        lines.append(encode_entry(entry, **facts))
    return "".join(lines)
