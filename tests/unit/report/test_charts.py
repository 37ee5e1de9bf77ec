"""What the charts hold: limits, failures, shares and intervals, from records and conclusions."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from advisor.advice.charts import read_courses
from advisor.engine.record import Conclusions
from advisor.loader.plan import conclude_loader
from advisor.loader.tell import chart_loader
from advisor.memory.data import Probe
from advisor.memory.tell import chart_memory
from advisor.predict.memory_tables import chart_peak
from advisor.predict.tell import tell_prediction
from advisor.rate.data import Evaluation, TrialBranch
from advisor.telling import Datum, Mark
from tests.given import GivenConclusions
from tests.unit.loader.timings import run
from tests.unit.predict.sample_record import build_record as build_prediction
from tests.unit.predict.test_memory_tables import build_peak, share
from tests.unit.report.sample_run import GIB, MIB, build_derived, build_record, without

ROOT = Path(__file__).parents[3]


def make_probe(size, outcome="fit", peak=None, counted=None):
    return Probe(
        stage="memory",
        session=1,
        micro_batch_size=size,
        outcome=outcome,
        forward_backward_peak_bytes=peak,
        limit_peak_bytes=counted,
    )


def draw_memory(*probes, capacity=10 * GIB):
    record = msgspec.structs.replace(build_record(), probes=probes)
    memory = msgspec.structs.replace(build_derived().memory, capacity_bytes=capacity)
    given = GivenConclusions(record, without(build_derived(), memory=memory))
    chart = chart_memory(given)
    return chart, {line.label: [(d.x, d.y) for d in line.data] for line in chart.lines}


def make_branch(seed, samples, losses):
    return TrialBranch(
        micro_batch_size=8,
        gradient_accumulation_steps=1,
        global_batch_size=8,
        learning_rate=0.1,
        seed=seed,
        samples=samples,
        evaluations=tuple(Evaluation(samples=8 * n, loss=loss) for n, loss in enumerate(losses)),
        diverged=False,
    )


def test_a_near_limit_is_a_line_with_the_failures_on_it():
    probes = [make_probe(16, peak=4 * GIB), make_probe(32, peak=8 * GIB), make_probe(40, "oom")]
    chart, lines = draw_memory(*probes)
    assert chart.y_label == "peak, GiB"
    assert chart.y_marks == (Mark("limit", 10.0),)
    assert lines["measured peak"] == [(16, 4.0), (32, 8.0)]
    assert lines["out of memory"] == [(40, 10.0)]
    assert chart.lines[-1].style == "failures"


def test_a_far_limit_is_told_and_not_drawn():
    chart, _ = draw_memory(make_probe(16, peak=4 * MIB), make_probe(32, peak=8 * MIB))
    assert chart.y_marks == ()
    assert "far below the limit of 10.0 GiB" in chart.caption
    assert "cross" not in chart.caption
    assert chart.y_label == "peak, MiB"


def test_what_the_limit_counts_stands_beside_a_peak_that_is_more():
    chart, lines = draw_memory(
        make_probe(16, peak=4 * GIB, counted=GIB), make_probe(32, peak=12 * GIB, counted=9 * GIB)
    )
    assert lines["of it, what the limit counts"] == [(16, 1.0), (32, 9.0)]
    assert chart.y_marks == (Mark("limit", 10.0),)


def test_each_kind_of_failure_has_its_name():
    _, lines = draw_memory(
        make_probe(16, peak=8 * GIB), make_probe(32, "kernel"), make_probe(64, "refused")
    )
    assert lines["a kernel takes no such batch"] == [(32, 10.0)]
    assert lines["the model does not run it"] == [(64, 10.0)]


def test_the_loader_is_drawn_over_its_processes_with_the_speed_without_it():
    found = conclude_loader(run(load_s=0.1, step_s=0.101))
    chart = chart_loader(found)
    alone, together = chart.lines
    assert [datum.x for datum in alone.data] == [datum.x for datum in together.data] == [0, 1]
    assert chart.y_marks == (Mark("training without it", found.training_samples_per_s.point),)
    assert not chart.log_x


def test_a_course_is_the_mean_of_each_start_s_longest_branch_with_its_range():
    branches = [
        make_branch(0, 16, [4.0, 2.0, 1.0]),
        make_branch(0, 8, [4.0, 0.5]),
        make_branch(1, 16, [4.0, 4.0, 3.0]),
    ]
    (one, other), starts = read_courses([branches, [*branches, make_branch(2, 16, [9.0, 9.0])]])
    assert starts == 2
    assert one == other
    assert one == (
        Datum(x=0, y=4.0, low=4.0, high=4.0),
        Datum(x=8, y=3.0, low=2.0, high=4.0),
        Datum(x=16, y=2.0, low=1.0, high=3.0),
    )


def test_starts_that_judge_are_drawn_alone_where_there_are_enough():
    picked = [make_branch(seed, 16, [4.0, 1.0]) for seed in range(3)]
    fresh = [make_branch(seed, 16, [4.0, 2.0]) for seed in range(3, 6)]
    (few, _), starts = read_courses([[*picked, *fresh[:2]]] * 2)
    assert (starts, few[1].y) == (3, 1.0)
    (many, _), starts = read_courses([[*picked, *fresh]] * 2)
    assert (starts, many[1].y) == (3, 2.0)


def test_a_loss_that_is_no_number_is_left_out():
    side = [make_branch(0, 16, [4.0, float("nan"), 1.0])]
    (course, _), _ = read_courses([side, side])
    assert [point.x for point in course] == [0, 16]


def test_a_prediction_is_drawn_card_by_card_with_intervals_and_parts():
    sizes, parts = tell_prediction(Conclusions(build_prediction(gpus=("H200", "T4")))).charts
    (line,) = sizes.lines
    assert len(line.data) == 2
    assert all(d.low <= d.y <= d.high for d in line.data)
    assert {part.style for part in parts.lines} == {"bars"}
    assert "activations" in [part.label for part in parts.lines]


def test_the_parts_of_a_peak_are_bars_of_its_modules():
    chart = chart_peak(build_peak(share("head", 3 * MIB), share("body", 2 * MIB)))
    assert [d.x for d in chart.lines[0].data] == ["head", "body"]
    assert sum(d.y for line in chart.lines for d in line.data) == pytest.approx(5.0)


def test_plotly_is_loaded_for_a_page_alone():
    code = "import sys, advisor.report.console, advisor.report.markdown, advisor.questions\n"
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}print('plotly' in sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.strip() == "False"
