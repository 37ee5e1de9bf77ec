"""The page as text: its parts, its charts as plotly gets them, and what is escaped."""

import gzip
import html
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.engine.record import Conclusions
from advisor.predict.data import Breakdown, ModuleShare, PhaseLevel
from advisor.questions import RUN, read_run
from advisor.race.plan import RACE
from advisor.report.console import collect
from advisor.report.figures import MOST_BAR_RATIO, draw_figure, prepare, tabulate
from advisor.report.page import DARK, LIGHT, make_template, render_page
from advisor.report.screen import list_statuses
from advisor.sharpness.data import SharpnessConclusion, SharpnessPoint
from advisor.telling import Chart, Datum, Line, Mark
from tests.given import Derived, GivenConclusions
from tests.unit.report.sample_run import (
    build_derived,
    build_recommendation,
    build_record,
    without,
)

RACES = sorted((Path(__file__).parents[2] / "recordings" / "races").glob("*.json.gz"))
HOSTILE = "<script>alert(1)</script>"


def render_html(record, derived):
    return render_page(RUN, GivenConclusions(record, derived))


def list_charts(derived, record=None):
    given = GivenConclusions(record or build_record(), derived)
    charts = map(prepare, collect(RUN, given).charts)
    return {chart.title: chart for chart in charts if chart is not None}


def make_chart(*lines, **settings):
    return Chart(title="T", caption="C.", x_label="x", y_label="y", lines=lines, **settings)


def read_data(page):
    """The figures and templates as the page's script reads them."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


class Outline(HTMLParser):
    """Which elements are open at the end, and the text of each script."""

    VOID = frozenset({"meta", "link"})

    def __init__(self):
        super().__init__()
        self.open, self.counts, self.sources = [], {}, []

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.sources += [value for name, value in attrs if name in {"src", "href"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline(page):
    parser = Outline()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_the_file_needs_nothing_beside_it():
    found = outline(render_html(build_record(), build_derived()))
    assert found.sources == ["data:,"]
    assert found.counts["script"] == 3  # plotly's, the figures, and the page's own
    assert found.counts["figure"] == found.counts["figcaption"] == 6


def test_the_verdict_is_the_first_screen_s():
    given = GivenConclusions(build_record(), build_derived())
    page = html.unescape(render_page(RUN, given))
    screen, verdict = RUN.screen(given), page.split("<figure>")[0]
    told = (screen.answer, *screen.lines, *screen.cautions, *screen.settings, screen.next_step)
    for text in (*told, *(status.text for status in list_statuses(RUN, given))):
        assert text in verdict


def test_charts_come_in_the_order_of_what_decides():
    assert [*list_charts(build_derived())] == [
        "Speed against batch",
        "Time to train against batch",
        "Loss of the trial against time",
        "Loss of the trial against samples",
        "Noise scale along training",
        "Rates tried at each batch",
    ]


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


def test_what_the_user_wrote_is_escaped():
    facts = msgspec.structs.replace(
        build_record().workload, model_name=HOSTILE, how_loss=HOSTILE, sample_unit=HOSTILE
    )
    text = render_html(msgspec.structs.replace(build_record(), workload=facts), build_derived())
    assert HOSTILE not in text
    assert html.escape(HOSTILE) in text
    outline(text)
    assert read_data(text)["figures"][0]["layout"]["yaxis"]["title"]["text"].startswith("&lt;")


def test_names_are_text_for_plotly_too():
    line = Line(HOSTILE, (Datum(x=HOSTILE, y=1.0, note=HOSTILE), Datum(x="b", y=2.0)), "bars")
    drawn = draw_figure(make_chart(line, x_marks=(Mark(HOSTILE, 0.0),), log_x=False))
    assert HOSTILE not in json.dumps(drawn)
    assert drawn["data"][0]["x"][0] == html.escape(HOSTILE)


def test_a_run_without_results_has_no_charts_and_says_why():
    record = build_record(complete=False)
    assert list_charts(Derived(), record) == {}
    page = render_html(record, Derived())
    assert "the run is incomplete: Ctrl-C" in page
    assert "<script" not in page


def test_the_sharpness_has_a_chart_where_it_was_measured_and_positive():
    points = tuple(
        SharpnessPoint(at_step=step, sharpness=value)
        for step, value in ((0, 0.5), (10, None), (20, -1.0), (30, 4.0))
    )
    sharpness = SharpnessConclusion(status="measured", points=points)
    chart = list_charts(without(build_derived(), sharpness=sharpness))["Sharpness along training"]
    assert [(one.x, one.y) for one in chart.lines[0].data] == [(0, 0.5), (30, 4.0)]
    text = render_html(build_record(), without(build_derived(), sharpness=sharpness))
    assert "optimizer step: 30<br>" in json.dumps(read_data(text))


def test_the_recommended_size_is_marked_in_micro_batches_and_in_whole_ones():
    advice = msgspec.structs.replace(
        build_recommendation(), micro_batch_size=96, gradient_accumulation_steps=2
    )
    charts = list_charts(without(build_derived(), recommendation=advice))
    assert charts["Speed against batch"].x_marks == (Mark("recommended", 96),)
    assert charts["Time to train against batch"].x_marks[0] == Mark("recommended", 192)


@pytest.mark.parametrize("path", RACES, ids=lambda path: path.name)
def test_a_recorded_race_shows_its_proof(path, tmp_path):
    file = tmp_path / "run.json"
    file.write_bytes(gzip.decompress(path.read_bytes()))
    run = Conclusions(read_run(file))
    charts = {chart.title: chart for chart in map(prepare, collect(RUN, run).charts) if chart}
    time, samples = (charts[f"Loss of the trial against {what}"] for what in ("time", "samples"))
    for chart in (time, samples):
        base, other = chart.lines
        assert base.label.startswith("your batch ")
        assert all(d.low <= d.y <= d.high for d in (*base.data, *other.data))
    assert [d.y for d in time.lines[1].data] == [d.y for d in samples.lines[1].data]
    pairs = charts["Rates tried at each batch"]
    assert sum(len(line.data) for line in pairs.lines) == len(run.of(RACE).pairs) + 1
    json.dumps([draw_figure(chart) for chart in charts.values()], allow_nan=False)


def test_an_interval_is_an_error_bar_and_stands_in_the_table():
    line = Line("l", (Datum(x=1, y=10.0, low=8.0, high=13.0), Datum(x=2, y=20.0, low=19.0)))
    bars = draw_figure(make_chart(line))["data"][0]["error_y"]
    assert list(bars["array"]) == [3.0, 0.0]
    assert list(bars["arrayminus"]) == [2.0, 1.0]
    table = tabulate(make_chart(line))
    assert [column.header for column in table.columns] == ["line", "x", "y", "from", "to"]
    assert table.rows == (("l", "1", "10", "8", "13"), ("l", "2", "20", "19", ""))


def test_one_very_uncertain_point_does_not_flatten_the_curve():
    line = Line("l", (Datum(x=1, y=10.0, high=1e6, low=0.0), Datum(x=2, y=20.0)))
    _, top = draw_figure(make_chart(line))["layout"]["yaxis"]["range"]
    assert top == pytest.approx(20.0 * MOST_BAR_RATIO, rel=0.1)


def test_failures_are_crosses_and_bars_stand_upon_each_other():
    failed = Line("f", (Datum(x=1, y=1.0), Datum(x=2, y=1.0)), "failures")
    assert draw_figure(make_chart(failed))["data"][0]["marker"]["symbol"] == "x"
    bars = [Line(name, (Datum(x="a", y=1.0),), "bars") for name in "pq"]
    drawn = draw_figure(make_chart(*bars, log_x=False))
    assert drawn["layout"]["barmode"] == "stack"
    assert [trace["type"] for trace in drawn["data"]] == ["bar", "bar"]


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**6),
            st.floats(1e-6, 1e9) | st.sampled_from((math.nan, math.inf, -1.0, 0.0)),
            st.floats(1e-3, 1e9) | st.none(),
        ),
        max_size=20,
    ),
    st.booleans(),
)
def test_whatever_the_points_the_figure_is_json_within_its_axes(points, log_y):
    data = tuple(
        Datum(x=x, y=y, low=None if spread is None else y - spread, high=math.inf)
        for x, y, spread in points
    )
    chart = prepare(make_chart(Line("", data), log_y=log_y))
    shown = [one for one in points if math.isfinite(one[1]) and (one[1] > 0.0 or not log_y)]
    assert (chart is None) == (len(shown) < 2)
    if chart is not None:
        drawn = json.loads(json.dumps(draw_figure(chart), allow_nan=False))
        assert len(drawn["data"][0]["y"]) == len(shown)
        bars = drawn["data"][0].get("error_y", {}).get("arrayminus", [])
        assert not log_y or all(
            bar < y for bar, y in zip(bars, drawn["data"][0]["y"], strict=False)
        )


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_stand_out_from_the_paper(theme):
    assert make_template(theme)["layout"]["paper_bgcolor"] == theme.paper
    for colour in (*theme.lines, "#808890"):
        assert contrast(colour, theme.paper) >= 3.0  # of graphics, by WCAG 2.1
    for colour in (theme.ink, theme.soft, theme.good, theme.warn):
        assert contrast(colour, theme.paper) >= 4.5  # of text


def contrast(one, other):
    bright, dull = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dull + 0.05)


def luminance(colour):
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
