"""The branches of a growing batch beside those of the constant one -> the time that it takes."""

import math
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from advisor.growth.data import Growth, GrowthBranch, Legs
from advisor.race.compare import Comparison, average_curve, compare_sides
from advisor.rate.data import SAME_RATE

#: Starts after which a schedule stays undecided.
MOST_STARTS = 9
#: Lengths of the branches, as shares of the longest, the longest first: where the constant batch
#: ends is a point of the curve that the growing batch's ends are compared with.
GROWING_LENGTHS, CONSTANT_LENGTHS = (1.0, 0.8), (1.0, 0.7, 0.5)


def compare_growth(
    growth: Growth, branches: Sequence[GrowthBranch], time_s: Callable[[Legs], float]
) -> Comparison | None:
    """Return the log of the growing batch's time to the constant one's loss over that one's time.

    None where either was not trained, did not train, or they share no loss. A branch takes `time_s`
    in the user's loop.
    """
    own = select_branches(growth, branches)
    if any(branch.loss is None for branch in own):
        return None
    constant, growing = (
        [branch for branch in own if branch.is_growing is side] for side in (False, True)
    )

    def read(side: Sequence[GrowthBranch]) -> list[tuple[float, float]]:
        return average_curve((each.seed, time_s(each.legs), each.loss or 0.0) for each in side)

    return compare_sides(constant, growing, read)


def select_branches(growth: Growth, branches: Sequence[GrowthBranch]) -> list[GrowthBranch]:
    """Return the branches of the same batches and rate, of any length."""

    def is_own(branch: GrowthBranch) -> bool:
        legs = growth.growing if branch.is_growing else growth.constant
        own, asked = ([leg.global_batch_size for leg in each] for each in (branch.legs, legs))
        is_same_rate = math.isclose(branch.learning_rate, growth.learning_rate, rel_tol=SAME_RATE)
        is_same_course = branch.rate_course == growth.rate_course
        return is_same_course and is_same_rate and own == asked[: len(own)]

    return [*filter(is_own, branches)]


def list_lengths(legs: Legs, fractions: Sequence[float], *, is_stretched: bool) -> tuple[Legs, ...]:
    """Return branches of these shares of the samples: each leg shorter, or the last cut off."""
    samples = sum(leg.samples for leg in legs)
    if not is_stretched:
        return tuple(_cut(legs, round(each * samples)) for each in fractions)
    return tuple(
        tuple(replace(leg, steps=max(1, round(each * leg.steps))) for leg in legs)
        for each in fractions
    )


def _cut(legs: Legs, samples: int) -> Legs:
    kept = []
    for leg in legs:
        steps = min(leg.steps, samples // leg.global_batch_size)
        samples -= steps * leg.global_batch_size
        kept += [replace(leg, steps=steps)] if steps else []
        if steps < leg.steps:
            break
    return tuple(kept)
