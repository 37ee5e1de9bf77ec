"""The schedules of a batch that grows: what the law proposes, and what training showed of it.

The growing batch and the advised pair are trained from the same starts; what counts is the time to
the loss that both end at. Where the user's own schedule lowers the rate, the branches have it
compressed to their length.
"""

import math
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from advisor.advice.data import SCENARIO, Recommendation, Scenario, Schedule, ScheduleItem
from advisor.advice.decay_swap import conclude_decay_swap, place_cuts
from advisor.advice.late_switch import conclude_late_switch
from advisor.advice.plan import ADVICE, find_advised_way
from advisor.advice.schedule import (
    LEAST_GAIN_FRACTION,
    conclude_schedule,
    interpolate_step_s,
)
from advisor.engine.record import Conclusions, Topic
from advisor.growth.data import GROWTH_BRANCHES, UNGROWN, Growth, Leg, Legs, RateCourse, find_cosine
from advisor.growth.plan import MOST_STARTS, compare_growth, select_branches
from advisor.noise.data import NOISE_BATCHES, get_working_noise_scale
from advisor.noise.plan import NOISE
from advisor.race.compare import spread
from advisor.race.loop_time import LOOP_TIMES
from advisor.race.plan import RACE, UNSEEN_ERROR
from advisor.rate.curves import group_pairs
from advisor.rate.data import TRIALS
from advisor.rate.rules import find_rule
from advisor.statistics import two_sided_t
from advisor.training.data import WorkloadFacts
from advisor.units import count_of, format_percent

#: How the rate goes along the branches of a schedule; one of trained curves has none.
_RATE_COURSES: dict[str, RateCourse] = {"noise": "own", "cosine": "cosine", "milestones": "legs"}
#: Fewest steps at the first batch, and at larger ones, that show anything.
_LEAST_STEPS = 4


def _list_by_law(
    conclusions: Conclusions, advice: Recommendation, facts: WorkloadFacts
) -> Iterator[Schedule]:
    """Yield what the law has to say of schedules: by the noise, in place of the user's own."""
    record, noise = conclusions.record, conclusions.of(NOISE)
    size, is_summed = advice.global_batch_size, facts.loss_reduction == "sum"
    rule = find_rule(facts.optimizer, size, advice.learning_rate.value, is_summed=is_summed)
    steps = {each.step_source for each in record.all(NOISE_BATCHES)}
    # Checkpoints without a step are places in a list: nothing tells how far apart they lie.
    if noise is not None and noise.working is not None and steps <= {"steps"}:
        yield conclude_schedule(advice.candidates, noise, size, rule)
    course = () if noise is None else noise.course
    scales = [get_working_noise_scale(scale) for _, scale in course]
    swap = conclude_decay_swap(
        advice.candidates,
        size,
        rule,
        scenario=record.get(SCENARIO) or Scenario(),
        facts=facts,
        largest_noise_scale=max((each for each in scales if each is not None), default=None),
    )
    if swap is not None:
        yield swap


def _propose(conclusions: Conclusions) -> Iterator[tuple[Schedule, Growth | None]]:
    """Yield each schedule of the law's with what training shows, and what is trained of it."""
    record, advice = conclusions.record, conclusions.of(ADVICE)
    if record.workload is None or advice is None:
        return
    for schedule in _list_by_law(conclusions, advice, record.workload):
        growth, settled = _plan(conclusions, schedule, advice, record.workload), schedule
        if growth is not None:
            settled = _settle(conclusions, schedule, growth, advice)
        if settled.items and not settled.starts:
            why = "" if growth else "branches as short as the trial's do not show it"
            why = record.get(UNGROWN) or why
            if record.workload.script is not None:
                why = "in a script, and on several ranks, the batch is fixed when it starts"
            settled = replace(settled, untrained_because=why)
        yield settled, growth


def _plan(
    conclusions: Conclusions, schedule: Schedule, advice: Recommendation, facts: WorkloadFacts
) -> Growth | None:
    """Return what to train of a schedule; None where a short branch does not show it.

    The constant batch is the advised one, with its rate and the changes that it was trained with. A
    schedule of the whole run is compressed into a branch as long as those of the race.
    """
    way, race, rate = find_advised_way(conclusions), conclusions.of(RACE), advice.learning_rate
    if way is None or not rate.value or race is None or not race.base or not race.does_base_train:
        return None
    items, whole, course = schedule.items, schedule.samples, _RATE_COURSES[schedule.kind]
    if not items or not whole or any(item.learning_rate is None for item in items):
        return None
    window = race.base_steps * race.base.global_batch_size
    samples = whole * (1.0 if course == "own" else min(1.0, window / whole))
    ways = [
        (
            item.from_samples / whole,
            *item.split,
            # What a cosine lowers beside the items is no part of their ratio.
            (item.learning_rate or 0.0)
            / rate.value
            / (find_cosine(item.from_samples / whole) if course == "cosine" else 1.0),
        )
        for item in items
        if item.from_samples < whole  # of a few samples the last one may begin at their end
    ]
    constant = [(0.0, *way.split, 1.0)]
    if course == "legs":
        cuts, _ = place_cuts(conclusions.record.get(SCENARIO) or Scenario(), facts)
        constant = [(place / whole, *way.split, 1.0 / divisor) for place, divisor in cuts]
    growing, level = _lay(ways, samples), _lay(constant, samples)
    sizes = [leg.global_batch_size for leg in growing]
    grown_steps = sum(leg.steps for leg in growing if leg.global_batch_size != sizes[0])
    if not growing or min(grown_steps, growing[0].steps) < _LEAST_STEPS:
        return None
    if len(level) < len(constant):
        return None
    return Growth(
        growing=growing,
        constant=level,
        rate_course=course,
        learning_rate=rate.value,
        changes=advice.optimizer_changes,
    )


def _lay(ways: Sequence[tuple[float, int, int, float]], samples: float) -> Legs:
    """Return the legs of ways to make a step: from a share on, micro-batch, accumulation, rate.

    Those of less than half a step are left out.
    """
    ends = [*(share for share, *_ in ways[1:]), 1.0]
    legs = (
        Leg(
            steps=round((end - share) * samples / (size * count)),
            micro_batch_size=size,
            gradient_accumulation_steps=count,
            rate_ratio=ratio,
        )
        for (share, size, count, ratio), end in zip(ways, ends, strict=True)
    )
    return tuple(leg for leg in legs if leg.steps)


def _settle(
    conclusions: Conclusions, schedule: Schedule, growth: Growth, advice: Recommendation
) -> Schedule:
    """Return the schedule with what training showed; as it was where none did."""
    branches, times = conclusions.record.all(GROWTH_BRANCHES), conclusions.of(LOOP_TIMES)

    def time_s(legs: Legs) -> float:
        return sum(
            leg.steps * interpolate_step_s(advice.candidates, leg.global_batch_size) for leg in legs
        )

    own = select_branches(growth, branches)
    diverged = {branch.seed for branch in own if branch.is_growing and branch.loss is None}
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
    if seen is None or times is None:
        return schedule
    time_error = times.estimate_error(growth.growing[-1].split, growth.constant[-1].split)
    error = math.hypot(seen.error, time_error, UNSEEN_ERROR)
    ratio = spread(seen.log_ratio, two_sided_t(0.95, seen.degrees) * error)
    gain = ratio.map(lambda each: 1.0 - each, falls=True)
    settled = replace(schedule, gain_fraction=gain.point, gain_interval=gain, starts=seen.starts)
    if (gain.low or 0.0) > 0.0 and (gain.point or 0.0) >= LEAST_GAIN_FRACTION:
        return settled
    least = format_percent(LEAST_GAIN_FRACTION)
    reason = f"trained, it does not surely save {least} of the time"
    return replace(settled, items=(), reason=reason)


def find_open_growth(conclusions: Conclusions) -> Growth | None:
    """Return what may be trained of a schedule; None where none may show that it saves time."""
    for schedule, growth in _propose(conclusions):
        gain = schedule.gain_interval
        is_undecided = (
            gain is not None
            and (gain.low or 0.0) <= 0.0
            and (gain.point or 0.0) >= LEAST_GAIN_FRACTION
            and schedule.starts < MOST_STARTS
        )
        if growth is not None and (is_undecided or not schedule.starts):
            return growth
    return None


def _conclude_schedules(conclusions: Conclusions) -> tuple[Schedule, ...]:
    """Return the schedules considered: by noise, by trained curves, in place of the user's own."""
    advice = conclusions.of(ADVICE)
    if advice is None:
        return ()
    switch = conclude_late_switch(group_pairs(conclusions.record.all(TRIALS)), advice.candidates)
    schedules = [
        *(schedule for schedule, _ in _propose(conclusions)),
        *([switch] if switch else []),
    ]
    order = ("noise", "trained", "cosine", "milestones")
    return tuple(sorted(schedules, key=lambda schedule: order.index(schedule.kind)))


def _choose_schedule(conclusions: Conclusions) -> tuple[ScheduleItem, ...]:
    """Return the items to follow: a swap that the user asked for, then what was trained."""
    schedules = [each for each in conclusions.of(SCHEDULES) or () if each.items]
    asked = [each for each in schedules if each.kind in {"cosine", "milestones"}]
    trained = [each for each in schedules if each.starts or each.kind == "trained"]
    return next((each.items for each in (*asked, *reversed(trained))), ())


SCHEDULE = Topic("schedule", tuple[ScheduleItem, ...], _choose_schedule)
SCHEDULES = Topic("schedules", tuple[Schedule, ...], _conclude_schedules)
