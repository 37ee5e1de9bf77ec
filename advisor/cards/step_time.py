"""The seconds of a step on a card that is not here: between what is known of it, by rule.

    t = busy + rest        busy: the larger of F/peak and D/bandwidth, which a step cannot go below
    on the other card      busy grows by the ratio of either, rest by either or not at all

A part of a step is held up by arithmetic, by memory, or by what launches it, and each is taken to
come as near to its limit as on the card where the step was timed. Which part is which is not known,
so every way counts.
"""

import itertools
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


class _Limits(NamedTuple):
    """Seconds of a step by arithmetic alone and by memory alone, and what is launched for it."""

    arithmetic_s: float
    memory_s: float
    launches: float


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
    there = [_limit(split, cost, gpu, precision) for split in splits]
    least = [max(each.arithmetic_s, each.memory_s) or None for each in there]
    if any(each is None for each in least):
        return None
    own = [(pair.micro_batch_size, pair.gradient_accumulation_steps) for pair in pairs]
    here = [None if timed_on is None else _limit(each, cost, timed_on, precision) for each in own]
    ways = _scale(pairs, here, there)
    if ways is None:
        # Nothing is known of the card but that a step of more samples takes no less time, and no
        # more in proportion.
        sizes = tuple(float(pair.global_batch_size) for pair in pairs)
        bounds = tuple(Bounds(low=each or 0.0, high=None) for each in least)
        return CardSteps("bounded", bounds, (sizes, (1.0,) * len(pairs)))
    bounds = tuple(Bounds(low=min(each), high=max(each)) for each in zip(*ways, strict=True))
    return CardSteps("predicted", bounds, ways)


def _limit(split: Split, cost: StepCost, gpu: Gpu, precision: Precision) -> _Limits:
    """Return the limits of a step; 0 stands for one that is not known."""
    size, count = split
    flops, peak = (
        cost.count_flops(size),
        find_peak(gpu.peak_flops, precision, uses_tf32=cost.uses_tf32),
    )
    moved, bandwidth = cost.count_moved_bytes(size), gpu.bandwidth_bytes_per_s
    return _Limits(
        arithmetic_s=count * max(flops, 0) / peak if flops and peak else 0.0,
        memory_s=count * max(moved, 0) / bandwidth if bandwidth else 0.0,
        launches=count,
    )


def _scale(
    pairs: Sequence[TrainedPair], here: Sequence[_Limits | None], there: Sequence[_Limits]
) -> tuple[tuple[float, ...], ...] | None:
    """Return every pair's seconds for each way; None where a limit of either card is not known."""
    known = [each for each in here if each is not None]
    if len(known) < len(pairs) or not all(
        each.arithmetic_s and each.memory_s for each in (*known, *there)
    ):
        return None
    ratios = [
        [new / old for new, old in zip(after, before, strict=True)]
        for before, after in zip(known, there, strict=True)
    ]
    ways = []
    for by_busy, by_rest in itertools.product(range(2), range(3)):
        times = []
        for pair, before, after, ratio in zip(pairs, known, there, ratios, strict=True):
            busy_s = min(max(before.arithmetic_s, before.memory_s), pair.step_s)
            scaled_s = busy_s * ratio[by_busy] + (pair.step_s - busy_s) * ratio[by_rest]
            times.append(max(scaled_s, after.arithmetic_s, after.memory_s))
        ways.append(tuple(times))
    return tuple(ways)
