"""A race on a clock like an H100's: within the time that is planned for it, it has an answer."""

import msgspec
import pytest

from advisor.engine.spec import Limits, Spec
from advisor.race.plan import RACE
from advisor.race.stage import continue_race, run_race
from advisor.race.trainer import Trainer
from advisor.race.ways import WAYS
from advisor.training.data import WorkloadSpec
from tests.given import open_run
from tests.unit.doubles import Notes
from tests.unit.race.timed_training import Clock, TimedTraining
from tests.unit.samples import FIXED_S, PER_SAMPLE_S, make_probes, make_record

#: Of a worker there: the context, the libraries, the model; and what passed before there is a plan.
START_S, BEFORE_S = 4.0, 20.0
#: Seconds of a step of the user's own batch, and what its answer may take.
GPT, RESNET_64 = (0.06, 180.0), (0.03, 120.0)
RESNET_256 = (0.1, 220.0)


@pytest.fixture
def race(monkeypatch):
    """A function: opens a run where a step takes so long, and races in what its plan leaves."""

    def race(step_s, budget_s=None, **law):
        clock = Clock()
        monkeypatch.setattr("time.monotonic", clock)
        began_s, times = clock.now_s, step_s / (FIXED_S + PER_SAMPLE_S * 32)
        training = TimedTraining(clock, start_s=START_S, times=times, **law)
        limits = Limits(budget_s=budget_s, no_loader=True)
        run = open_run(
            Spec(workload=WorkloadSpec(target="model.py"), limits=limits),
            runner=training,
            progress=Notes(),
            save=lambda record: None,
        )
        probes = [
            msgspec.structs.replace(
                probe, step_times_s=tuple(times * each for each in probe.step_times_s)
            )
            for probe in make_probes()
        ]
        run.record = make_record(probes=probes)
        run.start_s = START_S
        clock.now_s += BEFORE_S
        plan = run.plan(step_s)
        clock.now_s += sum(share_s for stage, share_s in plan.shares_s.items() if stage != "trial")
        if run.has_time_for("trial"):
            run_race(run)
            while continue_race(run):
                pass
        return run, plan, clock.now_s - began_s

    return race


@pytest.mark.parametrize(("step_s", "most_s"), [GPT, RESNET_64, RESNET_256])
def test_what_is_planned_by_default_is_enough_for_a_pair_from_new_starts(race, step_s, most_s):
    run, plan, took_s = race(step_s, best_rate=3.0)
    assert plan.budget_s <= most_s
    assert took_s <= plan.budget_s
    winner = run.of(RACE).winner
    assert winner.fresh_starts >= 3
    assert winner.time_ratio.low < 0.66 < winner.time_ratio.high  # by the law


@pytest.mark.parametrize(("step_s", "most_s"), [GPT, RESNET_64, RESNET_256])
@pytest.mark.parametrize("law", [{}, {"best_rate": 0.5}, {"noise_scale": 20.0}])
def test_where_nothing_is_faster_the_answer_keeps_to_its_time_as_well(race, step_s, most_s, law):
    run, plan, took_s = race(step_s, **law)
    assert took_s <= plan.budget_s <= most_s
    assert run.of(RACE).winner is None


def test_two_minutes_is_too_short_for_a_race_of_slow_steps_which_is_then_not_begun(race):
    run, plan, took_s = race(RESNET_256[0], budget_s=120.0)
    assert "trial" not in plan.shares_s
    assert took_s <= 120.0
    assert run.of(RACE).does_base_train is None


def test_what_a_plan_has_for_a_race_is_what_its_branches_take(race):
    for step_s, _ in (GPT, RESNET_64, RESNET_256):
        run, _, _ = race(step_s)
        enough_s = run.needs.enough["trial"]
        base = run.of(RACE).base
        assert not Trainer(run, base, run.of(WAYS), enough_s).is_too_short
        assert Trainer(run, base, run.of(WAYS), 0.9 * enough_s).is_too_short
