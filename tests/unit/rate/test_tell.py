import msgspec
import pytest

from advisor.engine.record import Conclusions
from advisor.rate.conclude import LEARNING_RATE, LR_RANGE
from advisor.rate.range_stage import KIND
from advisor.rate.tell import describe_learning_rate, head_lr_range, tell_lr_range
from advisor.report.console import write_report
from advisor.report.page import render_page
from advisor.report.screen import MOST_LINES
from advisor.telling import Mark
from advisor.units import format_figure
from tests.unit.doubles import GOLDEN, text_of
from tests.unit.rate.range_samples import (
    BAD,
    WORKLOAD,
    build_lr_range,
    draw_curves,
    make_range_record,
)

RECORDS = {
    "lr_range.txt": build_lr_range(),
    "lr_range_inconclusive.txt": build_lr_range(curves=draw_curves(fall=0.0, noise=0.1)),
}


@pytest.mark.parametrize("name", RECORDS)
def test_the_report_at_80_columns_is_the_golden_text(name):
    text = text_of(write_report, KIND, Conclusions(RECORDS[name]))
    assert max(map(len, text.splitlines())) <= 80
    assert "None" not in text
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def test_the_first_screen_has_the_rate_the_good_ones_what_was_trained_and_what_next():
    conclusions = Conclusions(RECORDS["lr_range.txt"])
    lines = text_of(write_report, KIND, conclusions, is_full=False).splitlines()
    rate = format_figure(conclusions.of(LEARNING_RATE).value)
    assert lines[0].startswith(f"Train at learning rate {rate} ")
    assert any(line.startswith("Good rates: ") for line in lines)
    (row,) = (line for line in lines if line.startswith(">  "))
    assert row.split()[1:3] == [rate, "3"]
    assert f"→ bsadvisor probe {WORKLOAD.file}" in lines
    assert len(lines) <= MOST_LINES


def test_without_a_rate_the_first_screen_says_why_and_asks_for_nothing():
    conclusions = Conclusions(RECORDS["lr_range_inconclusive.txt"])
    text = text_of(write_report, KIND, conclusions, is_full=False)
    assert text.startswith("No learning rate: the range test: ")
    assert "→" not in text


def test_the_headline_alone_is_one_line():
    conclusions = Conclusions(RECORDS["lr_range.txt"])
    text = text_of(write_report, KIND, conclusions, headline_only=True)
    assert text.startswith("Train at learning rate ")
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (build_lr_range(complete=False), "(from an incomplete run)"),
        (build_lr_range(losses=BAD), "diverged from 3 of 3 starts"),
        (
            build_lr_range(curves=(), complete=False, stopped_because="interrupted"),
            "No learning rate: interrupted",
        ),
        (make_range_record(workload=None), "it did not begin"),
    ],
)
def test_the_headline_says_why_there_is_no_rate_or_how_sure_it_is(record, words):
    assert words in head_lr_range(Conclusions(record)).answer


def test_the_chart_has_a_line_for_each_seed_and_marks_the_rate():
    conclusions = Conclusions(RECORDS["lr_range.txt"])
    (chart,) = tell_lr_range(conclusions).charts
    assert [line.label for line in chart.lines] == [f"seed {k}, smoothed" for k in range(3)]
    assert chart.x_marks[0].at == conclusions.of(LEARNING_RATE).value
    assert [mark.label for mark in chart.x_marks] == ["advised", "good rates"]
    page = render_page(KIND, conclusions)
    assert "Loss while the learning rate rises" in page
    assert ">None<" not in page


def test_without_curves_the_page_has_no_chart():
    record = build_lr_range(curves=(), complete=False, stopped_because="interrupted")
    page = render_page(KIND, Conclusions(record))
    assert "<svg" not in page
    assert "interrupted" in page


def test_a_rate_by_a_range_test_is_told_as_such():
    text = describe_learning_rate(Conclusions(RECORDS["lr_range.txt"]).of(LEARNING_RATE))
    assert "it suggests" in text
    assert "good rates: " in text
    assert "over the noise" not in text


def test_rates_of_which_none_diverged_are_told_good_in_the_chart_as_well():
    conclusions = Conclusions(
        build_lr_range(curves=draw_curves(noise=0.01, valley=-2.0, brink=9.0))
    )
    found = conclusions.of(LR_RANGE)
    assert (found.status, found.high) == ("found", None)
    (chart,) = tell_lr_range(conclusions).charts
    assert chart.caption == f"Good rates: {found.reason}."
    assert Mark("good rates from", found.low) in chart.x_marks
    (curve, *_) = conclusions.record.lr_ranges
    assert [point.x for point in chart.lines[0].data] == list(curve.rates)  # none is cut off


def test_a_curve_too_short_to_be_smoothed_is_not_drawn():
    curves = [msgspec.structs.replace(c, rates=(0.1,), losses=(2.0,)) for c in draw_curves()]
    (chart,) = tell_lr_range(Conclusions(build_lr_range(curves=curves))).charts
    assert [line.data for line in chart.lines] == [(), (), ()]
    assert chart.caption.startswith("No rate is told good: ")
