"""Timings of a loader that follows the law of `advisor.loader.plan`."""

import math
import random

from advisor.loader.data import LoaderTiming, LoopTiming
from advisor.loader.plan import choose_next_workers

SIZE = 16
MOST = 16


def make_timing(
    workers,
    *,
    load_s,
    step_s,
    cores=8,
    waits=True,
    noise=0.0,
    windows=4,
    is_own=False,
    seed=0,
    handing_s=0.0,
):
    """Return what the law of the module gives: loading that waits scales, computing does not."""
    draw = random.Random(seed * 1000 + workers)

    def windowed(rate):
        return tuple(rate * math.exp(draw.gauss(0.0, noise)) for _ in range(windows))

    speed = max(1, workers if waits else min(workers, cores))
    batch_s = load_s / speed + (handing_s if workers else 0.0)
    both_s = max(batch_s, step_s) if workers else batch_s + step_s
    return LoaderTiming(
        workers=workers,
        micro_batch_size=SIZE,
        is_own=is_own,
        alone_samples_per_s=windowed(SIZE / batch_s),
        training_samples_per_s=windowed(SIZE / step_s),
        together_samples_per_s=windowed(SIZE / both_s),
        waiting_fractions=(1.0 - step_s / both_s,) * windows,
        batch_s=batch_s,
        steps=windows,
        cores=cores,
    )


def make_loop_timing(sizes, rounds, *, pass_s=0.0, fetch_s=0.0, workers=0, is_in_memory=False):
    """Return a session of the loop: for each size the seconds of a step by round."""
    return LoopTiming(
        workers=workers,
        is_in_memory=is_in_memory,
        micro_batch_sizes=tuple(sizes),
        step_s=tuple(map(tuple, rounds)),
        pass_s=(pass_s,) * len(sizes),
        fetch_s=fetch_s,
    )


def run(own=0, most=MOST, **law):
    """Return the timings that the choice asks for."""
    timings = [make_timing(own, is_own=True, **law)]
    while (workers := choose_next_workers(timings, most_workers=most)) is not None:
        timings.append(make_timing(workers, **law))
    return timings
