"""The race: the user's own pair is trained, then what may be faster, and what is from new starts.

Pairs are picked from a few starts and judged from others. A pair takes about the base pair's time:
one that needs longer has lost. Each piece of work is a task of its own, so that the race goes on
wherever the run has time left.
"""

import math

from advisor.engine.budget import NEEDS, TIME_PLAN, describe_plan
from advisor.engine.record import Slot
from advisor.engine.run import Run
from advisor.race.law import read_law
from advisor.race.picks import Picks, judge_next, predict_s
from advisor.race.plan import RACE, STARTS
from advisor.race.trainer import LEAST_STEPS, Trainer
from advisor.race.ways import WAYS, find_way
from advisor.rate.data import Candidate
from advisor.rate.range_stage import run_ranged_rate

#: Lengths of the base pair's branches, as shares of the longest: where each ends is a point of the
#: curve that other pairs' ends are compared with.
_LENGTHS = (1.0, math.sqrt(0.5), 0.5)
#: Seconds of a race over those of the plan from which on that is made again.
_LONG_RATIO = 1.2
#: Share of the time left that a race begun late may plan with.
_LEAST_OF_LEFT = 0.5


def run_race(run: Run) -> None:
    """Train pairs for the race's share of the time, without a base rate after a range test."""
    run_ranged_rate(run, lambda: _find_reference(run))
    later_s = run.unspent_s - run.share_s("trial")  # of the stages after it
    while not run.is_spent and continue_race(run, most_s=run.unspent_s - later_s):
        pass


def continue_race(run: Run, *, most_s: float | None = None) -> bool:
    """Train one pair more, within the time; return whether there was one to train."""
    picks = run.held(_PICKS) or _open(run)
    if picks is None:
        return False
    run.hold(_PICKS, picks)
    with run.noting_ends("trial"):
        did = _advance(picks, run.unspent_s if most_s is None else most_s)
        run.hold(_IS_OPEN, did)
        return did
    picks.trainer.is_over = True
    run.hold(_IS_OPEN, False)
    return False


def is_race_open(run: Run) -> bool:
    """Return whether another pair may still be trained."""
    return run.held(_IS_OPEN) is not False


def _find_reference(run: Run) -> Candidate | None:
    """Return the batch at which a rate is looked for where the user has none: the law's, or 32."""
    ways, given = run.of(WAYS), run.spec.limits.global_batch_size
    if not ways:
        return None
    own = find_way(ways, given) or find_way(ways, run.facts.base_batch_size)
    usual = min(ways, key=lambda way: abs(math.log(way.global_batch_size / 32)))
    return own or next(iter(read_law(run.conclusions).choose(ways)), usual)


def _open(run: Run) -> Picks | None:
    """Return the race, None where there is nothing to train or no time for it."""
    race, ways = run.of(RACE), run.of(WAYS)
    if race is None or race.base is None or not ways:
        return None
    if find_way(ways, race.base.global_batch_size) is None:
        if run.held(_TOLD) != race.reason:
            run.progress.note(f"trial: {race.reason}")
        run.hold(_TOLD, race.reason)
        return None
    time_s = max(run.share_s("trial"), _LEAST_OF_LEFT * run.unspent_s)
    trainer = Trainer(run, race.base, ways, time_s)
    if trainer.is_too_short:  # a short race tells more than what comes after it
        trainer = Trainer(run, race.base, ways, run.unspent_s)
    if trainer.is_too_short:
        trainer.say_untrained(
            f"no time was left for {LEAST_STEPS} steps of each pair, which take about "
            f"{trainer.least_s:.0f} s in all"
        )
        return None
    return Picks(trainer)


def _advance(picks: Picks, most_s: float) -> bool:
    """Train what comes next; return whether anything did, or could be afforded."""
    trainer, race = picks.trainer, picks.trainer.run.of(RACE)
    if trainer.is_over or race is None:
        return False
    if not trainer.has_begun:
        trainer.train_base(STARTS, _LENGTHS)
        _plan_again(trainer)
        return True
    if not race.does_base_train:
        return False
    if not picks.are_all_tried:
        place = picks.choose_next(race)
        if place is not None:
            needed_s = picks.predict_s(place, race) + predict_s(trainer)
            if trainer.affords(needed_s, most_s, is_close=picks.climbs):
                picks.try_place(place, race)
                return True
        picks.are_all_tried = place is None
    return judge_next(trainer, race, most_s)


def _plan_again(trainer: Trainer) -> None:
    """Plan the rest with what such branches take in a race, where that is more than thought."""
    run, race_s = trainer.run, trainer.predict_race_s()
    plan = run.record.get(TIME_PLAN)
    if run.spec.limits.budget_s is not None or plan is None:
        return
    if race_s > _LONG_RATIO * plan.needs_s.get("trial", race_s):
        step_s = race_s / NEEDS["trial"].steps
        run.progress.plan(describe_plan(run.plan(step_s, first="trial")))


_PICKS = Slot("picks", Picks)
#: Whether the race did anything when it was last asked to go on.
_IS_OPEN = Slot("race_is_open", bool)
#: Why there is nothing to train, as it was said last.
_TOLD = Slot("race_told", str)
