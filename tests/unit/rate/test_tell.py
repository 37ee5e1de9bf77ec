import msgspec
import pytest

from advisor.advice.tell import describe_learning_rate
from advisor.rate.range_record import derive_lr_range
from advisor.rate.range_report import (
    render_curves,
    render_headline,
    write_lr_range_html,
    write_lr_range_report,
)
from tests.unit.rate.range_samples import BAD, draw_curves, make_range_record
from tests.unit.report.sample_run import build_environment
from tests.unit.report.test_terminal import GOLDEN, text_of
from tests.unit.samples import FACTS, make_branches

WORKLOAD = msgspec.structs.replace(
    FACTS,
    how_model="make_model of the model file",
    how_loss="inferred: integer targets, so cross-entropy of model(inputs)",
    how_optimizer="make_optimizer of the model file",
    how_batch="make_dataset of the model file",
)


def build_lr_range(*, losses=None, curves=None, **fields):
    curves = tuple(draw_curves(noise=0.05) if curves is None else curves)
    record = make_range_record(
        workload=WORKLOAD, environment=build_environment(), elapsed_s=12.34, lr_ranges=curves
    )
    suggested = derive_lr_range(record).lr_range.suggested if curves else None
    trials = ()
    if suggested is not None:
        trials = tuple(make_branches(32, suggested, **({"losses": losses} if losses else {})))
    return msgspec.structs.replace(record, trials=trials, **fields)


RECORDS = {
    "lr_range.txt": build_lr_range(),
    "lr_range_inconclusive.txt": build_lr_range(curves=draw_curves(fall=0.0, noise=0.1)),
}


@pytest.mark.parametrize("name", RECORDS)
def test_the_report_at_80_columns_is_the_golden_text(name):
    record = RECORDS[name]
    text = text_of(write_lr_range_report, record, derive_lr_range(record))
    assert max(map(len, text.splitlines())) <= 80
    assert "None" not in text
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def test_the_headline_alone_is_one_line():
    record = RECORDS["lr_range.txt"]
    text = text_of(write_lr_range_report, record, derive_lr_range(record), headline_only=True)
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
    assert words in render_headline(record, derive_lr_range(record))


def test_the_chart_has_a_line_for_each_seed_and_marks_the_rate(tmp_path):
    record = RECORDS["lr_range.txt"]
    chart = render_curves(record, derive_lr_range(record))
    assert [line.label for line in chart.lines] == [f"seed {k}, smoothed" for k in range(3)]
    assert chart.marked_x is not None
    write_lr_range_html(tmp_path / "page.html", record, derive_lr_range(record))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Loss while the learning rate rises" in page
    assert "None" not in page


def test_without_curves_the_page_has_no_chart(tmp_path):
    record = build_lr_range(curves=(), complete=False, stopped_because="interrupted")
    assert render_curves(record, derive_lr_range(record)) is None
    write_lr_range_html(tmp_path / "page.html", record, derive_lr_range(record))
    assert "interrupted" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_rate_by_a_range_test_is_told_as_such():
    rate = derive_lr_range(RECORDS["lr_range.txt"]).learning_rate
    text = describe_learning_rate(rate)
    assert "it suggests" in text
    assert "good rates: " in text
    assert "over the noise" not in text
