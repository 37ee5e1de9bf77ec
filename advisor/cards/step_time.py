"""The seconds of a step on a card that is not here: between what is known of it, by rule.

    t = busy + rest        busy: the larger of F/peak and D/bandwidth, which a step cannot go below
    on the other card      busy grows by the ratio of either, rest by either or not at all

A part of a step is held up by arithmetic, by memory, or by what launches it, and each is taken to
come as near to its limit as on the card where the step was timed. Which part is which is not known,
so every way counts.
"""

from collections.abc import Sequence
from typing import NamedTuple

from advisor.advice.data import Bounds
from advisor.cards.data import Basis, TrainedPair
from advisor.device.catalogue import Gpu
from advisor.predict.data import StepCost
from advisor.predict.roofline import find_peak
from advisor.training.data import Precision

#: Micro-batch and accumulation.
Split = tuple[int, int]


class CardSteps(NamedTuple):
    """What is known of each pair's step on one card."""

    #: Where it comes from.
    basis: Basis
    #: Of each pair.
    step_s: tuple[Bounds, ...]
    #: For each way in which steps may scale, that of each pair beside the others', in any unit.
    ways: tuple[tuple[float, ...], ...]


def take_steps(pairs: Sequence[TrainedPair]) -> CardSteps:
    """Return the steps as the run timed them on this very card."""
    times = tuple(pair.step_s for pair in pairs)
    return CardSteps("measured", tuple(Bounds(low=each, high=each) for each in times), (times,))


def scale_steps(
    pairs: Sequence[TrainedPair],
    splits: Sequence[Split],
    cost: StepCost,
    *,
    gpu: Gpu,
    timed_on: Gpu | None,
    precision: Precision,
) -> CardSteps | None:
    """Return the steps on a card, scaled where the card that they were timed on is known as well.

    None where not even a bound is known. `splits` says how each pair is made on the card;
    `timed_on` is None where the catalogue has not the card of the run.
    """
    import numpy as np  # noqa: PLC0415 - reading a record must not cost its import

    there = np.array([_limit(split, cost, gpu, precision) for split in splits])
    least_s = there[:, :2].max(axis=1)
    if not least_s.all():
        return None
    here = np.zeros_like(there)
    if timed_on is not None:
        own = [(pair.micro_batch_size, pair.gradient_accumulation_steps) for pair in pairs]
        here = np.array([_limit(split, cost, timed_on, precision) for split in own])
    if not (here.all() and there.all()):
        # Nothing is known of the card but that a step of more samples takes no less time, and no
        # more in proportion.
        sizes = tuple(float(pair.global_batch_size) for pair in pairs)
        bounds = tuple(Bounds(low=each, high=None) for each in least_s.tolist())
        return CardSteps("bounded", bounds, (sizes, (1.0,) * len(pairs)))
    by_arithmetic, by_memory, by_launches = (there / here).T
    step_s = np.array([pair.step_s for pair in pairs])
    busy_s = np.minimum(here[:, :2].max(axis=1), step_s)
    times = np.array(
        [
            np.maximum(busy_s * by_busy + (step_s - busy_s) * by_rest, least_s)
            for by_busy in (by_arithmetic, by_memory)
            for by_rest in (by_arithmetic, by_memory, by_launches)
        ]
    )
    ends = zip(times.min(axis=0).tolist(), times.max(axis=0).tolist(), strict=True)
    bounds = tuple(Bounds(low=low, high=high) for low, high in ends)
    return CardSteps("predicted", bounds, tuple(map(tuple, times.tolist())))


def _limit(split: Split, cost: StepCost, gpu: Gpu, precision: Precision) -> tuple[float, ...]:
    """Return the seconds by arithmetic alone and by memory alone, 0 if not known, and launches."""
    size, count = split
    peak = find_peak(gpu.peak_flops, precision, uses_tf32=cost.uses_tf32)
    flops, moved = max(cost.count_flops(size) or 0, 0), max(cost.count_moved_bytes(size), 0)
    bandwidth = gpu.bandwidth_bytes_per_s
    arithmetic_s = count * flops / peak if peak else 0.0
    return arithmetic_s, count * moved / bandwidth if bandwidth else 0.0, count
