from pathlib import Path

import msgspec
import pytest

from advisor.advice.data import (
    Bounds,
    Frontier,
    Scenario,
    Schedule,
    ScheduleItem,
)
from advisor.advice.frontier import conclude_frontier
from advisor.advice.frontier_tell import chart_frontier, describe_frontier, format_bounds
from advisor.advice.schedule_tell import describe_schedule, list_schedules
from advisor.device.data import Interconnect
from advisor.questions import RUN
from advisor.report.console import write_report
from advisor.report.figures import prepare
from advisor.report.page import render_page
from tests.given import GivenConclusions
from tests.unit.doubles import text_of
from tests.unit.report.sample_run import build_derived, build_recommendation, build_record, without

GOLDEN = Path(__file__).parents[2] / "golden"
replace = msgspec.structs.replace
LINK = Interconnect(name="pcie4", bytes_per_s=31.5e9, source="its specification")
PAPER = Scenario(gpus=(1, 4), price_per_gpu_hour=2.5, interconnect=LINK, epochs=90.0)
SCHEDULES = (
    Schedule(
        kind="noise",
        items=(
            ScheduleItem(
                from_step=0,
                from_samples=0,
                global_batch_size=128,
                micro_batch_size=128,
                gradient_accumulation_steps=1,
                learning_rate=1.2,
            ),
            ScheduleItem(
                from_step=1200,
                from_samples=153_600,
                global_batch_size=1024,
                micro_batch_size=512,
                gradient_accumulation_steps=2,
                learning_rate=2.345,
            ),
        ),
        gain_fraction=0.0714,
        gain_over_advised_fraction=0.0912,
        measured_from_step=0,
        measured_to_step=2000,
        reason="the noise scale grows enough for a growing batch to pay",
        rate_note="rates by the scaling rule from the advised pair",
    ),
    Schedule(
        kind="cosine", gain_fraction=0.012, reason="larger batches save less than 3 % of the time"
    ),
)


def plan(scenario, noise_scale=701.4, **facts):
    """The sample run with a frontier of its candidates."""
    record = build_record()
    workload = replace(
        record.workload,
        **{
            "parameter_bytes": 493_824,
            "trainable_parameter_count": 123_456,
            **facts,
        },
    )
    record = replace(record, workload=workload, scenario=scenario)
    candidates = build_recommendation().candidates
    frontier = conclude_frontier(candidates, noise_scale, scenario=scenario, facts=workload)
    return record, without(build_derived(), frontier=frontier)


def report_text(record, derived):
    return text_of(write_report, RUN, GivenConclusions(record, derived))


def part_of(text, start, end):
    return text[text.index(start) : text.index(end)]


def test_the_table_and_the_schedules_at_80_columns_are_the_golden_text():
    record, derived = plan(PAPER)
    text = report_text(record, without(derived, schedules=SCHEDULES))
    assert max(map(len, text.splitlines())) <= 80
    table = part_of(text, "Time and cost", "Memory  ")
    seen = table + part_of(text, "Frontier  ", "\nWhy\n")
    assert seen == (GOLDEN / "frontier.txt").read_text(encoding="utf-8")


def test_without_options_there_is_one_paragraph_and_no_table():
    text = " ".join(report_text(*plan(Scenario())).split())
    assert "Time and cost" not in text
    assert "since on one device the cost is the time" in text


@pytest.mark.parametrize(
    ("scenario", "facts", "note"),
    [
        (Scenario(gpus=(2,)), {}, "the exchange of gradients is left out"),
        (Scenario(gpus=(2,), interconnect=LINK), {"parameter_count": None}, "keeps its parameters"),
        (Scenario(epochs=2.0), {"dataset_size": None}, "give --samples"),
        (Scenario(samples=9), {"base_batch_size": None}, "--base-batch-size"),
        (Scenario(price_per_gpu_hour=2.0), {}, "needs the length of the run"),
    ],
)
def test_what_was_asked_and_cannot_be_told_is_said(scenario, facts, note):
    record, derived = plan(scenario, **facts)
    assert note in " ".join(report_text(record, derived).split())


def test_lower_bounds_are_marked_as_such():
    text = report_text(*plan(Scenario(gpus=(2,))))
    assert "≥ 1.00 ×" in text


def test_without_a_noise_scale_the_reason_stands_in_place_of_figures():
    record, derived = plan(PAPER, noise_scale=None)
    text = report_text(record, derived)
    assert "Time and cost" not in text
    assert "Frontier       not measured: the noise scale is not known" in text
    assert prepare(chart_frontier(derived.frontier)) is None


def test_a_rate_that_was_not_tried_is_not_said_to_be():
    record, derived = plan(PAPER)
    advice = derived.recommendation
    untried = replace(advice, learning_rate=replace(advice.learning_rate, value=None))
    assert "learning rate was tried" not in report_text(
        record, without(derived, recommendation=untried)
    )


def test_one_gpu_has_a_chart_of_steps_and_samples_with_the_noise_scale_at_two_and_two():
    _, derived = plan(Scenario())
    chart = chart_frontier(derived.frontier)
    assert chart.title == "Steps against samples"
    assert [(one.x, one.y) for one in chart.lines[1].data] == [(2.0, 2.0)]


def test_the_page_draws_time_against_cost_for_each_number_of_gpus():
    record, derived = plan(PAPER, noise_scale=200.0)
    text = render_page(RUN, GivenConclusions(record, derived))
    assert "Time against cost" in text
    assert "1 GPU, measured" in text
    assert "4 GPUs, on paper" in text
    assert "batch near the noise scale" in text


def test_bounds_are_one_figure_two_or_open():
    assert format_bounds(Bounds(low=1.0, high=1.0001)) == "1.00"
    assert format_bounds(Bounds(low=1.0, high=2.0)) == "1.00 to 2.00"
    assert format_bounds(Bounds(low=1.0, high=None)) == "≥ 1.00"


def test_a_noise_scale_off_the_measured_batches_is_said_to_be():
    _, derived = plan(Scenario(), noise_scale=1e6)
    assert "no batch near it was measured" in describe_frontier(derived.frontier)
    assert describe_frontier(Frontier(reason="it is so")) == "not measured: it is so"


def test_a_schedule_without_rates_or_gain_prints_none():
    assert list(list_schedules(())) == []
    schedule = Schedule(kind="milestones", reason="what it saves depends on the length")
    assert describe_schedule(schedule) == "not advised: what it saves depends on the length"
    slower = replace(schedule, gain_fraction=-0.05)
    assert describe_schedule(slower).endswith("to take 5.0 % more time than the advised batch")
    unrated = replace(SCHEDULES[0], rate_note="", items=SCHEDULES[0].items[:1])
    assert "no rates, since none was run to scale from" in describe_schedule(unrated)
