"""What the stages need of a model, and what each gets of the time there is."""

import random

import msgspec
import pytest

from advisor.engine import run as engine_run
from advisor.engine.budget import (
    LONGEST_S,
    NEEDS,
    PATIENCE_S,
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
            for level in ("stages", "enough", "least"):
                own, other = getattr(needs, level), getattr(slower, level)
                assert all(own[stage] <= other[stage] for stage in NEEDS)
        assert all(
            needs.least[stage] <= needs.enough[stage] <= needs.stages[stage] for stage in NEEDS
        )
    slowest = estimate_needs(1e9, 1e9)
    most_s = {stage: need.most_s for stage, need in NEEDS.items()}
    assert slowest.stages == most_s | {"trial": LONGEST_S}  # of less a race shows nothing


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
        for level in (needs.enough, needs.stages):
            if left_s >= sum(level[stage] for stage in shares):
                assert all(shares[stage] >= level[stage] * (1 - 1e-9) for stage in shares)
        least_s = sum(needs.least[stage] for stage in shares)
        for stage, share_s in shares.items():
            assert share_s >= needs.least[stage] * min(1.0, left_s / least_s) * (1 - 1e-9)
        missing = needs.stages.keys() - shares.keys() - {"memory savings", "soak"}
        if missing - {"trial", "sharpness"}:  # no other way to have the least of each
            assert left_s < sum(needs.least.values())
        elif missing:  # no other way to train and to have what that stands on
            assert left_s < sum(needs.enough.values())


def test_a_time_too_short_for_all_goes_to_the_speed_at_last():
    needs = estimate_needs(3.0, 0.5)  # of which the least is 8.5 s
    assert list(needs.share_out(800.0)) == [*NEEDS][:6]
    assert list(needs.share_out(695.0)) == ["memory", "throughput", "noise", "loader", "trial"]
    assert list(needs.share_out(300.0)) == ["memory", "throughput", "noise", "loader"]
    assert needs.share_out(15.0) == {"throughput": 15.0}
    assert needs.share_out(5.0) == {"throughput": 5.0}
    assert list(needs.share_out(15.0, first="noise")) == ["noise"]


def test_a_race_is_not_begun_without_what_it_stands_on():
    """Its least and the least of the others would fit, but tell nothing together."""
    needs = estimate_needs(4.0, 0.1, without={"sharpness"})
    left_s = sum(needs.least.values()) + 5.0
    shares = needs.share_out(left_s)
    assert list(shares) == ["memory", "throughput", "noise", "loader"]
    assert all(shares[stage] >= needs.enough[stage] for stage in shares)
    whole = needs.share_out(needs.enough_s)
    assert whole == pytest.approx({stage: needs.enough[stage] for stage in whole})
    assert "trial" in whole


def test_what_the_advice_stands_without_is_left_out_first():
    needs = estimate_needs(5.0, 0.1)
    full_s, kept = total(needs), [*NEEDS]
    assert list(needs.share_out(0.7 * full_s)) == kept
    assert list(needs.share_out(0.66 * full_s)) == [each for each in kept if "savings" not in each]
    assert list(needs.share_out(0.3 * full_s)) == kept[:-2]


@pytest.fixture
def plan(monkeypatch):
    """Return a function that plans a run which was opened some seconds ago."""

    class Clock:
        now_s = 100.0

        def monotonic(self):
            return self.now_s

    def plan(
        budget_s=None, *, start_s=1.0, step_s=0.05, reserved=0.0, passed_s=10.0, has_dataset=True
    ):
        clock = Clock()
        monkeypatch.setattr(engine_run, "time", clock)
        spec = Spec(workload=WorkloadSpec(target="model.py"), limits=Limits(budget_s=budget_s))
        run = open_run(spec, runner=None, progress=Notes(), save=lambda record: None)
        run.keep_workload(msgspec.structs.replace(FACTS, has_dataset=has_dataset))
        run.start_s, run.reserved_fraction = start_s, reserved
        clock.now_s += passed_s
        made = run.plan(step_s)
        assert made == run.record.get(TIME_PLAN)
        return run, made

    return plan


def test_without_a_budget_the_command_takes_what_the_model_needs(plan):
    run, made = plan(start_s=0.5, step_s=0.005)
    assert run.budget_s == made.budget_s == made.needed_s == pytest.approx(10.0 + total(run.needs))
    assert run.unspent_s == pytest.approx(total(run.needs))
    assert sum(made.shares_s.values()) == pytest.approx(run.unspent_s)
    text = describe_plan(made)
    assert text.startswith("about 90 s: memory 4 s, throughput 12 s, noise 6 s, ")
    assert "left out" not in text


def test_what_needs_more_than_two_minutes_takes_these_or_what_is_enough(plan):
    run, made = plan(start_s=1.0, step_s=0.05)
    assert run.budget_s == made.budget_s == PATIENCE_S > made.enough_s
    assert describe_plan(made).startswith("about 2 min, short of the 7.6 min that this model takes")
    run, made = plan(start_s=4.0, step_s=0.05)
    assert PATIENCE_S < run.budget_s == made.enough_s < made.needed_s
    assert made.enough_s == pytest.approx(10.0 + run.needs.enough_s)
    assert {"memory", "throughput", "noise", "loader", "trial"} <= made.shares_s.keys()
    assert plan(start_s=600.0, step_s=60.0)[0].budget_s <= LONGEST_S


def test_a_plan_without_a_budget_leaves_no_race_out_that_may_be_had_at_all(plan):
    draw = random.Random(0)
    for _ in range(200):
        start_s, step_s = draw_costs(draw)
        run, made = plan(start_s=start_s, step_s=step_s)
        if made.enough_s > LONGEST_S:
            continue
        assert made.shares_s["trial"] >= run.needs.least["trial"]
        engine_run.time.now_s += 1e-6  # since the plan was made
        assert run.share_s("memory") > 0.0
        assert run.has_time_for("trial")
        assert "trial" in run.needs.share_out(run.unspent_s)


def test_a_budget_is_a_ceiling_and_the_plan_says_what_it_costs(plan):
    run, made = plan(150.0, start_s=3.0)
    assert run.budget_s == made.budget_s == 150.0
    assert sum(made.shares_s.values()) == pytest.approx(140.0)
    assert describe_plan(made).startswith(
        "about 2.5 min, short of the 8.8 min that this model takes: memory"
    )
    assert describe_plan(made).endswith("; left out: soak, memory savings")
    short = describe_plan(plan(60.0, start_s=3.0)[1])
    assert short.endswith(
        "; left out: trial, soak, memory savings; 2.1 min would train other pairs"
    )
    run, made = plan(60.0, start_s=3.0)
    assert run.has_time_for("soak")  # where the others leave time for it
    engine_run.time.now_s += 45.0
    assert not run.has_time_for("soak")
    assert run.has_time_for("loader")
    assert run.has_time_for("a question of its own")
    run, made = plan(3600.0)
    assert run.budget_s == 3600.0
    assert made.budget_s == made.needed_s < 480.0


def test_what_is_reserved_for_variants_comes_on_top(plan):
    run, made = plan(start_s=0.5, step_s=0.005, reserved=0.2)
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
    ("step_s", "most_s"),
    [
        (0.06, 180.0),  # GPT-2 of 124 M parameters, 32 sequences of 1024, bf16
        (0.03, 120.0),  # ResNet-50, 64 images, bf16
        (0.1, 220.0),  # the same, 256 images
    ],
)
def test_a_card_as_fast_as_an_h100_gets_what_the_advice_stands_on_in_minutes(plan, step_s, most_s):
    """A worker's start takes 4 s there; 20 s have passed when the plan is made."""
    run, made = plan(start_s=4.0, step_s=step_s, passed_s=20.0)
    assert run.budget_s == made.budget_s <= most_s
    assert {"memory", "throughput", "noise", "loader", "trial"} <= made.shares_s.keys()
    for stage, share_s in made.shares_s.items():
        assert share_s >= run.needs.enough[stage] * (1 - 1e-9)


def test_two_minutes_leave_out_the_race_of_a_resnet_at_256_images_and_say_what_it_takes(plan):
    run, made = plan(120.0, start_s=4.0, step_s=0.1, passed_s=20.0)
    assert list(made.shares_s) == ["memory", "throughput", "noise", "loader"]
    assert all(share_s >= run.needs.enough[stage] for stage, share_s in made.shares_s.items())
    assert "left out: trial" in describe_plan(made)
    assert "3.6 min would train other pairs" in describe_plan(made)
