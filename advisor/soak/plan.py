"""What a longer training run says about a size that fitted for a few steps.

A leak adds memory all along. The optimizer's state, workspaces, caches that fill or are emptied add
some too, and stop: the rise must be there from one stretch of the run to the next, and last.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from advisor.engine.record import Topic
from advisor.memory.search import TOO_BIG
from advisor.soak.data import SOAKS, Soak, SoakConclusion, SoakFigures
from advisor.statistics import NORMAL_QUANTILE, Estimate

#: Share by which evaluation must exceed training to count as more: page granularity is less.
_LEAST_EXCESS_FRACTION = 0.01
#: Steps at the start that do not count: they create optimizer state, workspaces and caches.
SETTLING_STEPS = 4
#: Stretches that the rest is cut into; their lowest points must rise every time. Independent noise
#: orders six of them by chance once in 6! = 720 times, and fewer than five jumps never do.
STRETCHES = 6
#: Steps of a stretch: with one there would be no lowest point.
LEAST_STRETCH_STEPS = 2
#: Steps below which nothing is said of growth.
LEAST_STEPS = SETTLING_STEPS + STRETCHES * LEAST_STRETCH_STEPS
#: Rise over the run below which it is the granularity of heap and allocator.
LEAST_RISE_BYTES = 1 << 18
#: Share of the mean rise that every stretch must have: less is noise after a jump, or dying out.
LASTING_FRACTION = 1 / 3


def conclude_soak(soaks: Sequence[Soak]) -> SoakConclusion | None:
    """Return whether the size that was soaked last holds; None where none was.

    Too few steps to tell a leak from noise leave it open.
    """
    if not soaks:
        return None
    last, growth = soaks[-1], fit_growth(soaks[-1].held_bytes)
    is_tested = len(last.held_bytes) >= LEAST_STEPS
    holds = True if last.outcome == "fit" and is_tested else None
    training, evaluation, full = last.training_peak_bytes, last.evaluation_peak_bytes, None
    if growth and growth.point and training is not None and last.capacity_bytes is not None:
        # The peak is that of the last steps, those with the most leaked memory.
        full = last.steps + int(max(0, last.capacity_bytes - training) / growth.point)
    return SoakConclusion(
        **{name: getattr(last, name) for name in SoakFigures.__struct_fields__},
        holds=False if last.outcome in TOO_BIG or growth is not None else holds,
        is_growth_tested=is_tested,
        growth_bytes_per_step=growth,
        steps_until_full=full,
        evaluation_needs_more=training is not None
        and evaluation is not None
        and evaluation > (1.0 + _LEAST_EXCESS_FRACTION) * training,
        failed=find_failed_sizes(soaks),
    )


def find_failed_sizes(soaks: Sequence[Soak]) -> tuple[int, ...]:
    """Return the micro-batches that ran out of memory by their size, in the order they ran.

    With memory that grows any size would end so.
    """
    failed = (soak for soak in soaks if soak.outcome in TOO_BIG)
    return tuple(each.micro_batch_size for each in failed if fit_growth(each.held_bytes) is None)


def fit_growth(held_bytes: Sequence[int]) -> Estimate | None:
    """Return the bytes that each step leaves taken for good, None where memory does not rise.

    It does where the interval of the slope, the median over all pairs of steps, is above zero and
    the lowest points of equal stretches rise every time, by enough and evenly enough.

    Source: Theil 1950 and Sen 1968 for slope and interval.
    """
    if len(held_bytes) < LEAST_STEPS:
        return None
    values = np.asarray(held_bytes[SETTLING_STEPS:], dtype=np.float64)
    rises = np.diff([stretch.min() for stretch in np.array_split(values, STRETCHES)])
    if rises.sum() < LEAST_RISE_BYTES or rises.min() < LASTING_FRACTION * rises.mean():
        return None
    count = len(values)
    later, earlier = np.triu_indices(count, k=1)[::-1]
    slopes = np.sort((values[later] - values[earlier]) / (later - earlier))
    # Half the width, in ranks, of the interval for Kendall's score under no trend.
    spread = NORMAL_QUANTILE * math.sqrt(count * (count - 1) * (2 * count + 5) / 18.0)
    low = slopes[max(0, math.floor((len(slopes) - spread) / 2.0))]
    high = slopes[min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2.0))]
    return Estimate(float(np.median(slopes)), float(low), float(high)) if low > 0.0 else None


SOAK = Topic("soak", SoakConclusion, lambda found: conclude_soak(found.record.all(SOAKS)))


def merge_ranks(results: Mapping[int, Sequence[Soak]]) -> list[Soak]:
    """Return the soak of the rank that ran out of memory, else of the one that takes most."""
    soaks = [each[0] for _, each in sorted(results.items()) if each]
    return [max(soaks, key=lambda soak: (soak.outcome != "fit", soak.training_peak_bytes or 0))]
