"""What the stages need of a model, and what each gets of the time there is."""

import random

import msgspec
import pytest

from advisor.engine import run as engine_run
from advisor.engine.budget import (
    LONGEST_S,
    NEEDS,
    TIME_PLAN,
    describe_plan,
    estimate_needs,
)
from advisor.engine.spec import Limits, Spec
from advisor.training.data import WorkloadSpec
from tests.given import open_run
from tests.unit.doubles import Notes
from tests.unit.samples import FACTS


def total(needs):
    return sum(needs.stages.values())


def draw_costs(draw):
    return 10 ** draw.uniform(-2, 1.5), 10 ** draw.uniform(-4, 1.5)


def test_slower_starts_and_steps_need_more_up_to_a_limit():
    draw = random.Random(0)
    for _ in range(200):
        start_s, step_s = draw_costs(draw)
        needs = estimate_needs(start_s, step_s)
        for slower in (estimate_needs(2 * start_s, step_s), estimate_needs(start_s, 2 * step_s)):
            assert all(needs.stages[stage] <= slower.stages[stage] for stage in NEEDS)
            assert needs.least_s <= slower.least_s
    slowest = estimate_needs(1e9, 1e9)
    assert slowest.stages == {stage: need.most_s for stage, need in NEEDS.items()}


def test_a_fast_model_needs_half_a_minute_and_stages_that_are_not_asked_nothing():
    needs = estimate_needs(0.1, 0.00025, without={"sharpness"})
    assert 20.0 < total(needs) < 30.0
    assert "sharpness" not in needs.stages


def test_all_the_time_is_shared_out_and_nobody_starves():
    draw = random.Random(0)
    for _ in range(500):
        left_out = draw.sample(list(NEEDS), draw.randint(0, 7))
        needs = estimate_needs(*draw_costs(draw), without=left_out)
        left_s = 10 ** draw.uniform(0, 3.5)
        shares = needs.share_out(left_s)
        assert sum(shares.values()) == pytest.approx(left_s if shares else 0.0)
        least = {stage: min(needs.least_s, needs.stages[stage]) for stage in shares}
        for stage, share_s in shares.items():
            assert share_s >= least[stage] * min(1.0, left_s / sum(least.values())) * (1 - 1e-9)
        if left_s >= total(needs):
            assert all(shares[stage] >= each * (1 - 1e-9) for stage, each in needs.stages.items())
        missing = needs.stages.keys() - shares.keys()
        if missing - {"memory savings", "soak"}:  # no other way to have the least of each
            assert left_s < sum(min(needs.least_s, need_s) for need_s in needs.stages.values())


def test_a_time_too_short_for_all_goes_to_the_speed_at_last():
    needs = estimate_needs(3.0, 2.0)  # of which the least is 23.5 s
    assert list(needs.share_out(150.0)) == [*NEEDS][:6]
    assert list(needs.share_out(100.0)) == ["memory", "throughput", "noise", "loader"]
    assert needs.share_out(30.0) == {"throughput": 30.0}
    assert needs.share_out(5.0) == {"throughput": 5.0}
    assert list(needs.share_out(30.0, first="noise")) == ["noise"]


def test_what_the_advice_stands_without_is_left_out_first():
    needs = estimate_needs(5.0, 0.1)
    full_s, kept = total(needs), [*NEEDS]
    assert list(needs.share_out(0.7 * full_s)) == kept
    assert list(needs.share_out(0.66 * full_s)) == [each for each in kept if "savings" not in each]
    assert list(needs.share_out(0.3 * full_s)) == kept[:-2]


@pytest.fixture
def plan(monkeypatch):
    """Return a function that plans a run which was opened 10 s ago."""

    class Clock:
        now_s = 100.0

        def monotonic(self):
            return self.now_s

    def plan(budget_s=None, *, start_s=1.0, step_s=0.05, reserved=0.0, has_dataset=True):
        clock = Clock()
        monkeypatch.setattr(engine_run, "time", clock)
        spec = Spec(workload=WorkloadSpec(target="model.py"), limits=Limits(budget_s=budget_s))
        run = open_run(spec, runner=None, progress=Notes(), save=lambda record: None)
        run.keep_workload(msgspec.structs.replace(FACTS, has_dataset=has_dataset))
        run.start_s, run.reserved_fraction = start_s, reserved
        clock.now_s += 10.0
        made = run.plan(step_s)
        assert made == run.record.get(TIME_PLAN)
        return run, made

    return plan


def test_without_a_budget_the_command_takes_what_the_model_needs(plan):
    run, made = plan()
    assert run.budget_s == made.budget_s == made.needed_s == pytest.approx(10.0 + total(run.needs))
    assert run.unspent_s == pytest.approx(total(run.needs))
    assert sum(made.shares_s.values()) == pytest.approx(run.unspent_s)
    text = describe_plan(made)
    assert text.startswith("about 7.6 min: memory 12 s, throughput 27 s, noise 42 s, ")
    assert "left out" not in text
    assert plan(start_s=60.0, step_s=60.0)[0].budget_s == LONGEST_S


def test_a_budget_is_a_ceiling_and_the_plan_says_what_it_costs(plan):
    run, made = plan(60.0, start_s=3.0)
    assert run.budget_s == made.budget_s == 60.0
    assert sum(made.shares_s.values()) == pytest.approx(50.0)
    assert describe_plan(made).startswith(
        "about 60 s, short of the 8.8 min that this model takes: memory"
    )
    assert describe_plan(made).endswith("; left out: soak, memory savings")
    assert run.has_time_for("soak")  # where the others leave time for it
    engine_run.time.now_s += 45.0
    assert not run.has_time_for("soak")
    assert run.has_time_for("loader")
    assert run.has_time_for("a question of its own")
    run, made = plan(3600.0)
    assert run.budget_s == 3600.0
    assert made.budget_s == made.needed_s < 480.0


def test_what_is_reserved_for_variants_comes_on_top(plan):
    run, made = plan(reserved=0.2)
    assert made.needed_s == pytest.approx((10.0 + total(run.needs)) / 0.8)
    assert run.unspent_s == pytest.approx(total(run.needs))


def test_the_share_of_a_stage_is_of_what_is_left_beside_those_after_it(plan):
    run, made = plan()
    planned = made.shares_s
    assert run.share_s("memory") == pytest.approx(planned["memory"])
    assert run.share_s("trial") > 1.2 * planned["trial"]  # nothing was spent before it
    assert run.share_s("memory savings") == pytest.approx(run.unspent_s)
    assert not {"noise", "loader", "trial"} & plan(has_dataset=False)[0].needs.stages.keys()


def test_a_plan_made_again_leaves_out_what_is_done_and_follows_the_faster_step(plan):
    run, made = plan()
    again = run.plan(0.005, first="throughput")
    assert again == run.record.get(TIME_PLAN)
    assert again.needs_s.keys() == made.needs_s.keys() - {"memory"}
    assert run.budget_s == again.needed_s < 0.5 * made.needed_s
    assert run.has_time_for("memory")


@pytest.mark.parametrize(
    ("step_s", "budget_s"),
    [
        (0.06, 180.0),  # GPT-2 of 124 M parameters, 32 sequences of 1024, bf16
        (0.1, 120.0),  # ResNet-50, 256 images, bf16
    ],
)
def test_a_card_as_fast_as_an_h100_gets_what_the_advice_stands_on_in_minutes(step_s, budget_s):
    """A worker's start takes 4 s there; 20 s have passed when the plan is made."""
    needs = estimate_needs(4.0, step_s, without={"sharpness", "ranks"})
    shares = needs.share_out(budget_s - 20.0)
    assert {"memory", "throughput", "noise", "loader", "trial"} <= shares.keys()
    assert sum(shares.values()) == pytest.approx(budget_s - 20.0)
    assert all(share_s >= needs.least_s for share_s in shares.values())
