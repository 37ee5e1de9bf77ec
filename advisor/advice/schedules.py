"""The schedules of a batch that grows which were considered, and the one to follow."""

from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from advisor.advice.data import SCENARIO, Recommendation, Scenario, Schedule, ScheduleItem
from advisor.advice.decay_swap import conclude_decay_swap
from advisor.advice.late_switch import conclude_late_switch
from advisor.advice.plan import ADVICE, find_advised_way
from advisor.advice.schedule import Pair, conclude_schedule
from advisor.advice.trained_schedule import is_open, plan_growth, settle_schedule
from advisor.engine.conclusions import Conclusions, Topic
from advisor.growth.data import GROWTH_BRANCHES, UNGROWN, Growth
from advisor.noise.data import NOISE_BATCHES, get_working_noise_scale
from advisor.noise.plan import NOISE
from advisor.race.loop_time import LOOP_TIMES
from advisor.race.plan import RACE
from advisor.rate.curves import group_pairs
from advisor.rate.data import TRIALS
from advisor.training.data import WorkloadFacts

#: Why what the law proposes is never trained.
_IN_A_SCRIPT = "in a script, and on several ranks, the batch is fixed when it starts"
_TOO_SHORT = "branches as short as the trial's do not show it"


class _Proposal(NamedTuple):
    """What would be trained of a schedule that the law proposes, and what training showed."""

    growth: Growth | None
    settled: Schedule


def _propose(conclusions: Conclusions) -> list[_Proposal]:
    """Return the schedules by the noise and in place of the user's own, as far as trained."""
    facts, advice = conclusions.record.workload, conclusions.of(ADVICE)
    if facts is None or advice is None:
        return []
    schedules = _list_by_law(conclusions, advice, facts)
    return [_settle(conclusions, schedule, advice, facts) for schedule in schedules]


def _list_by_law(
    conclusions: Conclusions, advice: Recommendation, facts: WorkloadFacts
) -> Iterator[Schedule]:
    """Yield what the law has to say of schedules."""
    record, noise = conclusions.record, conclusions.of(NOISE)
    advised = Pair(
        global_batch_size=advice.global_batch_size,
        learning_rate=advice.learning_rate.value,
        optimizer=facts.optimizer,
        loss_is_sum=facts.loss_reduction == "sum",
    )
    steps = {each.step_source for each in record.all(NOISE_BATCHES)}
    # Checkpoints without a step are places in a list: nothing tells how far apart they lie.
    if noise is not None and noise.working is not None and steps <= {"steps"}:
        yield conclude_schedule(advice.candidates, noise, advised)
    course = () if noise is None else noise.course
    scales = [get_working_noise_scale(scale) for _, scale in course]
    swap = conclude_decay_swap(
        advice.candidates,
        advised,
        scenario=record.get(SCENARIO) or Scenario(),
        facts=facts,
        largest_noise_scale=max((each for each in scales if each is not None), default=None),
    )
    if swap is not None:
        yield swap


def _settle(
    conclusions: Conclusions, schedule: Schedule, advice: Recommendation, facts: WorkloadFacts
) -> _Proposal:
    """Return what training shows of a schedule, or why there is none."""
    record, times = conclusions.record, conclusions.of(LOOP_TIMES)
    growth, settled = _plan(conclusions, schedule, advice, facts), schedule
    if growth is not None and times is not None:
        ends = (growth.growing[-1].split, growth.constant[-1].split)
        settled = settle_schedule(
            schedule,
            growth,
            record.all(GROWTH_BRANCHES),
            advice.candidates,
            time_error=times.estimate_error(*ends),
        )
    if settled.items and not settled.starts:
        why = record.get(UNGROWN) or ("" if growth is not None else _TOO_SHORT)
        if facts.script is not None:
            why = _IN_A_SCRIPT
        settled = replace(settled, untrained_because=why)
    return _Proposal(growth, settled)


def _plan(
    conclusions: Conclusions, schedule: Schedule, advice: Recommendation, facts: WorkloadFacts
) -> Growth | None:
    """Return what to train of a schedule; None where the advised pair itself was not trained."""
    way, race, rate = (
        find_advised_way(conclusions),
        conclusions.of(RACE),
        advice.learning_rate.value,
    )
    if way is None or not rate or race is None or race.base is None or not race.does_base_train:
        return None
    return plan_growth(
        schedule,
        way,
        rate,
        advice.optimizer_changes,
        scenario=conclusions.record.get(SCENARIO) or Scenario(),
        facts=facts,
        window_samples=race.base_steps * race.base.global_batch_size,
    )


def find_open_growth(conclusions: Conclusions) -> Growth | None:
    """Return what may be trained of a schedule; None where none is open."""
    return next(
        (each.growth for each in _propose(conclusions) if each.growth and is_open(each.settled)),
        None,
    )


def _conclude_schedules(conclusions: Conclusions) -> tuple[Schedule, ...]:
    """Return the schedules considered: by noise, by trained curves, in place of the user's own."""
    advice = conclusions.of(ADVICE)
    if advice is None:
        return ()
    proposed = {each.settled.kind: each.settled for each in _propose(conclusions)}
    switch = conclude_late_switch(group_pairs(conclusions.record.all(TRIALS)), advice.candidates)
    by_noise = proposed.pop("noise", None)
    return tuple(each for each in (by_noise, switch, *proposed.values()) if each is not None)


def _choose_schedule(conclusions: Conclusions) -> tuple[ScheduleItem, ...]:
    """Return the items to follow: a swap that the user asked for, then what was trained."""
    schedules = [each for each in conclusions.of(SCHEDULES) or () if each.items]
    asked = [each for each in schedules if each.kind in {"cosine", "milestones"}]
    trained = [each for each in schedules if each.starts or each.kind == "trained"]
    return next((each.items for each in (*asked, *reversed(trained))), ())


SCHEDULE = Topic("schedule", tuple[ScheduleItem, ...], _choose_schedule)
SCHEDULES = Topic("schedules", tuple[Schedule, ...], _conclude_schedules)
