"""A schedule from the law's proposal through its training to what is advised."""

import math
import random

import pytest

from advisor.advice.data import SCENARIO, Moment, Scenario
from advisor.advice.schedule_tell import list_schedules
from advisor.advice.schedules import SCHEDULE, SCHEDULES, find_open_growth
from advisor.growth import question
from advisor.growth.data import GROWTH_BRANCHES, UNGROWN, GrowthBranch, GrowthTask
from advisor.growth.question import continue_growth
from advisor.race.stage import continue_race
from tests.unit.race.law_training import LawTraining, race_pairs


class LawGrowth(LawTraining):
    """Trains batches that grow by the same law; `waste` is what larger batches lose of samples."""

    def __init__(self, *, waste=0.0, deviation=0.005, diverges=False, **law):
        super().__init__(**law)
        self.waste, self.deviation, self.diverges = waste, deviation, diverges

    def run(self, task, *, timeout_s, on_result):
        if not isinstance(task, GrowthTask):
            return super().run(task, timeout_s=timeout_s, on_result=on_result)
        self.tasks.append(task)
        draw = random.Random(len(self.tasks))
        sides = [(True, legs) for legs in task.growing] + [(False, legs) for legs in task.constant]
        for seed in task.trial.seeds:
            luck = draw.gauss(0.0, 0.02)
            for is_growing, legs in sides:
                first = legs[0].global_batch_size
                useful = sum(
                    leg.samples * (first / leg.global_batch_size) ** self.waste for leg in legs
                )
                if self.diverges and is_growing:
                    useful = math.nan
                loss = useful**-0.7 * math.exp(luck + draw.gauss(0.0, self.deviation))
                on_result(
                    GrowthBranch(
                        is_growing=is_growing,
                        legs=legs,
                        rate_course=task.rate_course,
                        learning_rate=task.trial.learning_rate,
                        seed=seed,
                        loss=loss if loss > 0.0 else None,
                    )
                )
        return ()


SCENARIOS = {
    "cosine": Scenario(cosine=Moment(at=100.0, unit="epoch")),
    "milestones": Scenario(
        milestones=(Moment(at=50.0, unit="epoch"), Moment(at=75.0, unit="epoch")), epochs=100.0
    ),
}


def race(training, kind="cosine", *, budget_s=1000.0):
    run, _ = race_pairs(training, budget_s=budget_s, more=False)
    run.set(SCENARIO, SCENARIOS[kind])
    return run


def grow(run):
    """Train the race to its end, then what is open."""
    while continue_race(run):
        pass
    rounds = 0
    while continue_growth(run, lambda run: find_open_growth(run.conclusions)):
        rounds += 1
    return rounds


def find_swap(run, kind="cosine"):
    return next(each for each in run.of(SCHEDULES) if each.kind == kind)


@pytest.mark.parametrize("kind", ["cosine", "milestones"])
def test_a_swap_that_saves_time_is_trained_and_advised(kind):
    run = race(LawGrowth(), kind)
    proposed = find_swap(run, kind)
    assert proposed.items
    assert proposed.gain_interval is None
    assert grow(run) >= 1
    swap = find_swap(run, kind)
    truth = proposed.gain_fraction  # larger batches waste nothing here
    assert swap.items == run.of(SCHEDULE) != ()
    assert swap.starts >= 3
    assert swap.gain_interval.low <= truth <= swap.gain_interval.high
    assert swap.gain_fraction == pytest.approx(truth, abs=0.08)
    told = next(iter(list_schedules([swap]))).text
    assert f"trained from {swap.starts} starts, it took" in told
    assert "not run" not in told


def test_a_swap_that_wastes_samples_is_not_advised():
    run = race(LawGrowth(waste=1.0))
    assert find_swap(run).items
    assert grow(run) >= 1
    swap = find_swap(run)
    assert (swap.items, run.of(SCHEDULE)) == ((), ())
    assert swap.reason.startswith("trained, it does not surely save")


def test_a_swap_that_diverges_is_trained_once_and_not_advised():
    run = race(LawGrowth(diverges=True))
    assert grow(run) == 1
    (row,) = list_schedules([find_swap(run)])
    assert row.text == "not advised: trained, it diverged from 3 starts"


def test_what_is_not_sure_is_trained_from_more_starts_and_then_left():
    run = race(LawGrowth(deviation=0.3))
    rounds = grow(run)
    assert 1 <= rounds <= 3
    assert len({each.seed for each in run.record.all(GROWTH_BRANCHES)}) == 3 * rounds


def test_it_waits_for_the_end_of_the_race(monkeypatch):
    run = race(LawGrowth())
    monkeypatch.setattr(question, "is_race_open", lambda run: True)
    assert not continue_growth(run, lambda run: find_open_growth(run.conclusions))
    assert run.record.all(GROWTH_BRANCHES) == ()


def test_without_time_the_law_stands_alone_and_says_so():
    run = race(LawGrowth())
    while continue_race(run):
        pass
    run.start_s = 1e6
    assert not continue_growth(run, lambda run: find_open_growth(run.conclusions))
    assert "no time was left" in run.record.get(UNGROWN)
    told = next(iter(list_schedules([find_swap(run)]))).text
    assert told.startswith("by the law alone: ")
    assert "not trained: no time was left for it" in told
    assert "predicted to save" in told


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(cosine=Moment(at=1.0)),
        Scenario(milestones=(Moment(at=1.0), Moment(at=2.0)), samples=70),
        Scenario(milestones=(Moment(at=0.25),), samples=10),
    ],
)
def test_a_run_of_a_step_or_less_has_no_branches(scenario):
    run = race(LawGrowth())
    run.set(SCENARIO, scenario)
    assert grow(run) == 0
    assert [*list_schedules(run.of(SCHEDULES))]
