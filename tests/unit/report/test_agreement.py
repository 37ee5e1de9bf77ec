"""Whatever was measured, what a report says twice is the same, and no figure in it is none."""

import html
import json
import math
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.advice.plan import ADVICE
from advisor.engine.document import encode_document
from advisor.engine.record import Conclusions
from advisor.loader.data import LoaderConclusion, LoaderPoint
from advisor.loader.loop import conclude_loop
from advisor.noise.course import fit_trend
from advisor.noise.data import GradientMoments, NoiseBatches, NoiseConclusion, NoisePoint
from advisor.noise.plan import NOISE
from advisor.noise.reason import describe_points
from advisor.questions import RUN, read_run
from advisor.report.console import collect, write_report
from advisor.report.page import render_page
from advisor.statistics import Estimate
from tests.given import GivenConclusions
from tests.unit.doubles import text_of
from tests.unit.loader.timings import make_loop_timing
from tests.unit.report.sample_run import build_derived, build_record
from tests.unit.samples import (
    ADAMW,
    ENVIRONMENT,
    FACTS,
    FIXED_S,
    PER_SAMPLE_S,
    conclude,
    make_memory,
    make_record,
    make_throughput,
)

RECORDINGS = sorted((Path(__file__).parents[2] / "recordings").glob("*.json"))
replace = msgspec.structs.replace


def logs(low, high):
    return st.floats(math.log(low), math.log(high)).map(math.exp)


@st.composite
def estimates(draw, low=1.0, high=1e6):
    """A figure above 0; its interval may be any, or open, and its lower end below 0."""
    point = draw(logs(low, high))
    below = draw(st.one_of(logs(0.01, 0.99), st.floats(-3.0, 0.0)))
    above = draw(st.one_of(st.none(), logs(1.01, 300.0)))
    return Estimate(point, point * below, None if above is None else point * above)


@st.composite
def noises(draw, facts):
    is_adapted = draw(st.booleans())

    def make_point(step):
        return NoisePoint(
            at_step=step,
            loss=1.0,
            samples=100,
            noise_scale=draw(estimates()),
            preconditioned_noise_scale=draw(estimates()) if is_adapted else None,
            gradient_sqnorm=1.0,
            gradient_cov_trace=1.0,
        )

    points = tuple(map(make_point, sorted(draw(st.sets(st.integers(1, 99), max_size=5)))))
    scale = draw(estimates())
    noise = NoiseConclusion(
        status="lower_bound" if scale.high is None else "estimated",
        reason="",
        noise_scale=draw(estimates()) if is_adapted else scale,
        preconditioned_noise_scale=scale if is_adapted else None,
        points=points,
    )
    noise = replace(noise, trend=fit_trend(noise.course))
    moments = GradientMoments(group_sqnorms=(1.0,), group_dots=(1.0,), total_sqnorm=1.0)
    seen = NoiseBatches(at_step=9, loss=1.0, micro_batch_sizes=(8,), plain=moments)
    return replace(noise, reason=describe_points(facts, noise, [seen], []))


@st.composite
def throughputs(draw):
    found = make_throughput(sizes=(8, 32, 64, 512, 4096))

    def spread(point):
        middle = point.samples_per_s.point
        half = middle * draw(logs(0.01, 100.0))
        return replace(
            point, samples_per_s=Estimate(middle, max(0.0, middle - half), middle + half)
        )

    return replace(found, points=tuple(map(spread, found.points)))


FIGURE = Estimate(1000.0, 900.0, 1100.0)
LOADER = LoaderConclusion(
    micro_batch_size=32,
    status="limits",
    own_workers=0,
    training_samples_per_s=FIGURE,
    points=(
        LoaderPoint(
            workers=0, status="limits", samples_per_s=FIGURE, together_samples_per_s=FIGURE,
            loss_fraction=Estimate(0.5, 0.4, 0.6), waiting_fraction=0.5,
        ),
    ),
)  # fmt: skip


@st.composite
def loops(draw):
    sizes, per_sample_s = (8, 32, 512), draw(logs(1e-7, 1e-2))
    rounds = [(FIXED_S + size * (PER_SAMPLE_S + per_sample_s),) * 2 for size in sizes]
    return conclude_loop([make_loop_timing(sizes, rounds)])


@st.composite
def runs(draw):
    """Conclusions of a run whose pairs were not trained: what decides are noise and speed."""
    facts = replace(FACTS, optimizer=draw(st.sampled_from([FACTS.optimizer, ADAMW])))
    record = replace(make_record(facts), environment=ENVIRONMENT)
    return conclude(
        record,
        memory=make_memory(draw(st.sampled_from([4096, 5000])), draw(st.sampled_from(ENDS))),
        throughput=draw(throughputs()),
        noise=draw(noises(facts)),
        loader=draw(st.sampled_from([None, LOADER])),
        loop=draw(st.one_of(st.none(), loops())),
    )


ENDS = ["memory", "dataset", "cap", "budget"]


def report_of(conclusions):
    """The report in one line."""
    text = text_of(lambda console: write_report(console, RUN, conclusions))
    return text, " ".join(text.split())


def check_figures(line):
    assert not re.search(r"\b(nan|inf|None)\b|e\+\d|at least -|≥ -", line), line
    for figure, half in re.findall(r"([\d,.]+) ± ([\d,.]+)(?! %)", line):
        assert float(half.replace(",", "")) <= float(figure.replace(",", "")) * 1.01, line


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(runs())
def test_a_report_of_any_run_agrees_with_itself(run):
    text, line = report_of(run)
    check_figures(line)

    noise, advice = run.of(NOISE), run.of(ADVICE)
    told = re.search(r"Noise scale (≥ [\d,.]+|[\d,.]+ \([\d,.?-]+ to [\d,.]+\)) samples", line)
    reason = re.search(
        r"The noise scale is (?:at least ([\d,.]+) samples(?:, and taken for ([\d,.]+))?|"
        r"([\d,.]+) samples \(([\d,.]+) to ([\d,.]+)\)):",
        line,
    )
    at = re.search(r"at the noise scale, ([\d,.]+),", line)
    assert (reason is None) == (noise.working is None) == (at is None)
    if reason is not None:
        least, taken, point, _, high = reason.groups()
        assert at[1] == (taken or least or point)
        row = told[1]
        assert row == f"≥ {least}" if least else row.startswith(f"{point} (") and high in row

    batch = re.search(r"batch ([\d,]+)", line)[1]
    marked = re.search(r"^>b? +([\d,]+) ", text, re.MULTILINE)
    assert batch == marked[1] == f"{advice.global_batch_size:,}"

    faster = re.search(r"atch ([\d,]+) is ([\d.]+) % (faster|slower) per sample in your", line)
    (table, *_) = collect(RUN, run).tables
    headers = [column.header for column in table.columns]
    if faster and "in your loop" in headers:
        column = headers.index("in your loop")
        speeds = {row[1]: float(row[column].strip("~ ").replace(",", "")) for row in table.rows}
        gain = speeds[faster[1]] / speeds[batch] - 1.0
        told = float(faster[2]) / 100 if faster[3] == "faster" else -float(faster[2]) / 100
        assert gain == pytest.approx(told, abs=0.02)


@pytest.mark.slow
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(runs())
def test_the_page_and_the_document_tell_what_the_terminal_tells(run):
    told, headline = collect(RUN, run), RUN.headline(run)
    page = html.unescape(render_page(RUN, run))
    for text in (
        headline.answer,
        *headline.remarks,
        *(row.text for row in told.rows),
        *(item for passage in told.passages for item in passage.items),
    ):
        assert text in page
    derived = json.loads(encode_document(RUN, run))["derived"]
    advice = derived["recommendation"]
    assert f"batch {advice['global_batch_size']:,}" in headline.answer
    for reason in (*advice["reasons"], *advice["warnings"]):
        assert reason in page
    assert derived["noise"]["reason"] in page


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_recorded_run_has_no_figure_that_is_none(path):
    _, line = report_of(Conclusions(read_run(path)))
    check_figures(line)


def test_the_sample_has_no_figure_that_is_none():
    _, line = report_of(GivenConclusions(build_record(), build_derived()))
    check_figures(line)
