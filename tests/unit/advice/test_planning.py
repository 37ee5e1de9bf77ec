import msgspec

from advisor.advice.data import Moment, Scenario, Schedule, ScheduleItem
from advisor.advice.plan import FRONTIER, SCHEDULE, SCHEDULES
from advisor.engine.document import encode_document, json_schema
from advisor.questions import RUN
from advisor.statistics import Estimate
from advisor.training.data import OptimizerFacts
from tests.given import GivenConclusions
from tests.unit.report.sample_run import build_derived, build_recommendation, build_record, without
from tests.unit.samples import conclude

replace = msgspec.structs.replace


def ask(scenario=None, **workload):
    record = build_record()
    return replace(
        record,
        scenario=scenario or Scenario(),
        workload=replace(record.workload, **workload),
    )


def plan_frontier(record, noise, advice):
    return conclude(record, noise=noise, recommendation=advice).of(FRONTIER)


def plan_schedules(record, noise, advice):
    return conclude(record, noise=noise, recommendation=advice).of(SCHEDULES)


def choose_schedule(schedules):
    return conclude(build_record(), schedules=schedules).of(SCHEDULE)


def item(size):
    return ScheduleItem(
        from_step=0,
        from_samples=0,
        global_batch_size=size,
        micro_batch_size=size,
        gradient_accumulation_steps=1,
        learning_rate=None,
    )


def test_the_frontier_is_over_the_candidates_of_the_advice():
    frontier = plan_frontier(ask(), build_derived().noise, build_recommendation())
    assert [point.global_batch_size for point in frontier.points] == [32, 128, 192, 640, 1280]
    assert frontier.noise_scale == 701.4


def test_without_advice_or_workload_there_is_nothing_to_plan():
    noise, advice = build_derived().noise, build_recommendation()
    bare = replace(build_record(), workload=None)
    assert plan_frontier(ask(), noise, None) is None
    assert plan_frontier(bare, noise, advice) is None
    assert plan_schedules(ask(), noise, None) == ()
    assert plan_schedules(bare, noise, advice) == ()


def test_without_noise_only_the_swap_is_considered():
    scenario = Scenario(cosine=Moment(at=9, unit="epoch"))
    advice = build_recommendation()
    assert plan_schedules(ask(), None, advice) == ()
    assert [each.kind for each in plan_schedules(ask(scenario), None, advice)] == ["cosine"]
    assert plan_frontier(ask(), None, advice).points == ()


def test_with_noise_the_trend_and_the_swap_are_considered():
    scenario = Scenario(milestones=(Moment(at=3, unit="epoch"),), epochs=9.0)
    noise = build_derived().noise
    schedules = plan_schedules(ask(scenario), noise, build_recommendation())
    assert [each.kind for each in schedules] == ["noise", "milestones"]
    assert schedules[0].measured_to_step == 200
    adapted = replace(noise, preconditioned_noise_scale=Estimate(50.0, 40.0, 60.0))
    optimizer = OptimizerFacts(name="Adam", learning_rate=0.1)
    (by_noise, swap) = plan_schedules(
        ask(scenario, optimizer=optimizer), adapted, build_recommendation()
    )
    assert "two points" in by_noise.reason
    assert "noise scale measured" not in swap.reason


def test_the_swap_that_was_asked_for_comes_before_the_trend():
    by_noise = Schedule(kind="noise", items=(item(1),))
    swap = Schedule(kind="cosine", items=(item(2),))
    assert choose_schedule((by_noise, swap)) == (item(2),)
    assert choose_schedule((by_noise, replace(swap, items=()))) == (item(1),)
    assert choose_schedule(()) == ()


def test_the_document_has_the_schedule_and_its_schema():
    derived = without(build_derived(), schedule=(item(64),))
    document = msgspec.json.decode(encode_document(RUN, GivenConclusions(build_record(), derived)))
    assert document["derived"]["schedule"][0] == {
        "from_step": 0,
        "from_samples": 0,
        "global_batch_size": 64,
        "micro_batch_size": 64,
        "gradient_accumulation_steps": 1,
        "learning_rate": None,
    }
    assert "ScheduleItem" in json_schema(RUN)["$defs"]
