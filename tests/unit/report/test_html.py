import xml.etree.ElementTree as ET

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from advisor.predict.data import Breakdown, ModuleShare, PhaseLevel
from advisor.questions import RUN
from advisor.report.charts import HEIGHT, WIDTH, draw_chart
from advisor.report.console import collect
from advisor.report.page import render_page
from advisor.sharpness.data import SharpnessConclusion, SharpnessPoint
from advisor.telling import Chart, Datum, Line
from tests.given import Derived, GivenConclusions
from tests.unit.report.sample_run import (
    build_derived,
    build_recommendation,
    build_record,
    without,
)


def render_html(record, derived):
    return render_page(RUN, GivenConclusions(record, derived))


def render_charts(derived):
    charts = collect(RUN, GivenConclusions(build_record(), derived)).charts
    return tuple(drawn for drawn in map(draw_chart, charts) if drawn is not None)


def test_the_file_needs_nothing_beside_it(tmp_path):
    path = tmp_path / "run.html"
    path.write_text(render_page(RUN, GivenConclusions(build_record(), build_derived())))
    text = path.read_text(encoding="utf-8")
    assert "http" not in text
    assert "<script" not in text
    assert text.count("<svg") == 4
    assert "Train with batch 192" in text


def test_the_time_that_follows_from_the_speed_is_drawn_before_the_noise():
    titles = [drawn.chart.title for drawn in render_charts(build_derived())]
    places = [*map(titles.index, ("Throughput", "Predicted time to train"))]
    assert places == sorted(places)
    assert places[-1] < titles.index("Noise scale along training")


def test_the_page_has_the_tables_of_the_terminal():
    peak = Breakdown(
        micro_batch_size=192,
        peak_bytes=100,
        phase="backward",
        step=2,
        bytes_by_category={"activation": 100},
        modules=(
            ModuleShare(
                name="head", count=1, size_bytes=100, bytes_by_category={"activation": 100}
            ),
        ),
        timeline=(
            PhaseLevel(phase="backward", step=2, start_bytes=50, peak_bytes=100, end_bytes=60),
        ),
    )
    text = render_html(msgspec.structs.replace(build_record(), peak=peak), build_derived())
    assert "time to train" in text
    assert "At the peak, batch 192" in text


def test_every_drawing_is_well_formed():
    text = render_html(build_record(), build_derived())
    for drawing in text.split("<svg")[1:]:
        ET.fromstring("<svg" + drawing.split("</svg>")[0] + "</svg>")


def test_what_the_user_wrote_is_escaped():
    workload = msgspec.structs.replace(
        build_record().workload, how_loss="<script>alert(1)</script>"
    )
    text = render_html(msgspec.structs.replace(build_record(), workload=workload), build_derived())
    assert "<script>" not in text


def test_a_run_without_results_has_no_charts_and_says_why():
    record = build_record(complete=False)
    assert render_charts(Derived()) == ()
    assert "the run is incomplete: Ctrl-C" in render_html(record, Derived())


def test_the_sharpness_has_a_chart_where_it_was_measured_and_positive():
    points = tuple(
        SharpnessPoint(at_step=step, sharpness=value)
        for step, value in ((0, 0.5), (10, None), (20, -1.0), (30, 4.0))
    )
    sharpness = SharpnessConclusion(status="measured", points=points)
    charts = render_charts(without(build_derived(), sharpness=sharpness))
    drawn = next(each for each in charts if each.chart.title == "Sharpness along training")
    assert [(one.x, one.y) for one in drawn.lines[0].data] == [(0, 0.5), (30, 4.0)]
    text = render_html(build_record(), without(build_derived(), sharpness=sharpness))
    assert "<title>0: 0.500</title>" in text
    assert "<title>30.0: 4.00</title>" in text


def test_a_size_outside_the_measured_range_is_not_marked():
    advice = msgspec.structs.replace(build_recommendation(), micro_batch_size=5_000)
    charts = render_charts(without(build_derived(), recommendation=advice))
    assert {drawn.chart.title: drawn.marked_x is None for drawn in charts}["Throughput"]


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.floats(1e-3, 1e9)), min_size=2, max_size=20),
    st.booleans(),
)
def test_every_point_and_label_lies_on_the_canvas(pairs, log_y):
    data = tuple(Datum(x=x, y=y, low=y / 2, high=None) for x, y in pairs)
    lines = (Line("", data),)
    drawn = draw_chart(Chart(title="", x_label="", y_label="", lines=lines, log_y=log_y))
    ends = [end for one in data for end in (one.y, one.low)]
    assert all(0 <= drawn.x.place(x) <= WIDTH for x in [*(x for x, _ in pairs), *drawn.x.ticks])
    assert all(0 <= drawn.y.place(y) <= HEIGHT for y in [*ends, *drawn.y.ticks])
    assert 1 <= len(drawn.x.ticks) <= 9
    assert 1 <= len(drawn.y.ticks) <= 9
