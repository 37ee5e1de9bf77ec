"""A schedule that the law proposes -> what is trained of it, and what it was then seen to save.

The growing batch and the advised pair are trained from the same starts; what counts is the time to
the loss that both end at. Where the user's own schedule lowers the rate, the branches have it
compressed to their length.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from msgspec.structs import replace

from advisor.advice.data import Scenario, Schedule
from advisor.advice.decay_swap import place_cuts
from advisor.advice.schedule import LEAST_GAIN_FRACTION, interpolate_step_s
from advisor.growth.data import Growth, GrowthBranch, Leg, Legs, RateCourse, find_cosine
from advisor.growth.plan import MOST_STARTS, compare_growth, select_branches
from advisor.race.plan import UNSEEN_ERROR
from advisor.rate.data import Candidate, OptimizerChanges
from advisor.statistics import Estimate, exponentiate, two_sided_t
from advisor.training.data import WorkloadFacts
from advisor.units import count_of, format_percent

_RATE_COURSES: dict[str, RateCourse] = {"noise": "own", "cosine": "cosine", "milestones": "legs"}
#: Fewest steps at the first batch, and at larger ones, that show anything.
_LEAST_STEPS = 4


def plan_growth(
    schedule: Schedule,
    advised: Candidate,
    learning_rate: float,
    changes: OptimizerChanges,
    *,
    scenario: Scenario,
    facts: WorkloadFacts,
    window_samples: int,
) -> Growth | None:
    """Return what to train of a schedule; None where a short branch does not show it.

    The constant batch is the `advised` one, with its rate and the changes that it was trained with.
    A schedule of the whole run is compressed into a branch of so many samples.
    """
    course = _RATE_COURSES.get(schedule.kind)
    if course is None or not schedule.items or not schedule.samples:
        return None
    if any(item.learning_rate is None for item in schedule.items):
        return None
    whole = schedule.samples
    scale = 1.0 if course == "own" else min(1.0, window_samples / whole)
    ways = [
        (
            item.from_samples / whole,
            item.micro_batch_size,
            item.gradient_accumulation_steps,
            # What a cosine lowers beside the items is no part of their ratio.
            (item.learning_rate or 0.0)
            / learning_rate
            / (find_cosine(item.from_samples / whole) if course == "cosine" else 1.0),
        )
        for item in schedule.items
        if item.from_samples < whole  # of a few samples the last one may begin at their end
    ]
    own = advised.micro_batch_size, advised.gradient_accumulation_steps
    constant = [(0.0, *own, 1.0)]
    if course == "legs":
        cuts, _ = place_cuts(scenario, facts)
        constant = [(place / whole, *own, 1.0 / divisor) for place, divisor in cuts]
    growing, level = (_lay(each, scale * whole) for each in (ways, constant))
    if not growing:  # not even half a step
        return None
    first = growing[0].global_batch_size
    grown_steps = sum(leg.steps for leg in growing if leg.global_batch_size != first)
    if min(grown_steps, growing[0].steps) < _LEAST_STEPS or len(level) < len(constant):
        return None
    return Growth(
        growing=growing,
        constant=level,
        rate_course=course,
        learning_rate=learning_rate,
        changes=changes,
    )


def _lay(ways: Sequence[tuple[float, int, int, float]], samples: float) -> Legs:
    """Return the legs of ways to make a step: from a share on, micro-batch, accumulation, rate.

    Those of less than half a step are left out.
    """
    shares = [*(way[0] for way in ways), 1.0]
    legs = (
        Leg(
            steps=round((after - before) * samples / (micro * accumulation)),
            micro_batch_size=micro,
            gradient_accumulation_steps=accumulation,
            rate_ratio=ratio,
        )
        for (before, after), (_, micro, accumulation, ratio) in zip(
            pairwise(shares), ways, strict=True
        )
    )
    return tuple(leg for leg in legs if leg.steps)


def settle_schedule(
    schedule: Schedule,
    growth: Growth,
    branches: Sequence[GrowthBranch],
    candidates: Sequence[Candidate],
    *,
    time_error: float,
) -> Schedule:
    """Return the schedule with what training showed; as it was where none did.

    `time_error` is the standard error of the log of the ratio of both batches' times of a step.
    """

    def time_s(legs: Legs) -> float:
        return sum(
            leg.steps * interpolate_step_s(candidates, leg.global_batch_size) for leg in legs
        )

    diverged = {
        b.seed for b in select_branches(growth, branches) if b.is_growing and b.loss is None
    }
    if diverged:
        return replace(
            schedule,
            items=(),
            gain_fraction=None,
            gain_over_advised_fraction=None,
            starts=len(diverged),
            reason=f"trained, it diverged from {count_of(len(diverged), 'start')}",
        )
    seen = compare_growth(growth, branches, time_s)
    if seen is None:
        return schedule
    error = math.hypot(seen.error, time_error, UNSEEN_ERROR)
    half = two_sided_t(0.95, seen.degrees) * error
    ratio = exponentiate(Estimate(seen.log_ratio, seen.log_ratio - half, seen.log_ratio + half))
    gain = Estimate(*(1.0 - (each or 0.0) for each in (ratio.point, ratio.high, ratio.low)))
    is_sure = (gain.low or 0.0) > 0.0 and (gain.point or 0.0) >= LEAST_GAIN_FRACTION
    return replace(
        schedule,
        items=schedule.items if is_sure else (),
        gain_fraction=gain.point,
        gain_interval=gain,
        starts=seen.starts,
        reason=schedule.reason
        if is_sure
        else f"trained, it does not surely save {format_percent(LEAST_GAIN_FRACTION)} of the time",
    )


def is_open(schedule: Schedule) -> bool:
    """Return whether training more of what the law proposes may show that it saves time."""
    if not schedule.starts:
        return True
    gain = schedule.gain_interval
    if gain is None:
        return False
    is_undecided = (gain.low or 0.0) <= 0.0 and (gain.point or 0.0) >= LEAST_GAIN_FRACTION
    return is_undecided and schedule.starts < MOST_STARTS
