"""Throughput probes of sessions that follow a law of step time."""

import math

import numpy as np

from advisor.memory.data import Probe

DOUBLINGS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def affine(fixed_s, per_sample_s):
    return lambda size: fixed_s + per_sample_s * size


def probe(session, size, step_s, **fields):
    return Probe(
        stage="throughput",
        session=session,
        micro_batch_size=size,
        outcome="fit",
        step_times_s=(step_s,) if isinstance(step_s, float) else step_s,
        **fields,
    )


def measure(law, sizes=DOUBLINGS, *, sessions=3, noise=0.0, common=0.0, seed=0, enqueue=None):
    """Sessions of the law with noise for each size and for each whole session."""
    rng = np.random.default_rng(seed)
    probes = []
    for session in range(sessions):
        speed = math.exp(common * rng.standard_normal())
        for size in sizes:
            step_s = law(size) * speed * math.exp(noise * rng.standard_normal())
            issued = () if enqueue is None else (float(enqueue(size)),)
            probes.append(probe(session, size, float(step_s), enqueue_times_s=issued))
    return probes
