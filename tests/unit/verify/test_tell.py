"""What is printed of a verification."""

import io
import random

import msgspec
import pytest
from rich.console import Console

from advisor.engine.record import Conclusions
from advisor.questions import RUN
from advisor.report.console import write_report
from advisor.report.figures import draw_figure, prepare
from advisor.report.page import render_page
from advisor.report.screen import MOST_LINES, list_statuses
from advisor.telling import Told
from advisor.verify.data import CriticalBatch
from advisor.verify.plan import conclude_verification
from advisor.verify.stage import VERIFIED
from advisor.verify.tell import describe_critical_batch, tell_verification
from tests.given import GivenConclusions
from tests.unit.report.sample_run import build_derived, build_record
from tests.unit.verify.verified_branches import (
    add_held_out,
    make_all,
    make_branch,
    make_record,
    make_throughput,
)


def conclude(branches, throughput=None, recommended=128):
    return conclude_verification(make_record(branches, recommended), throughput)


class Known(Conclusions):
    """Those of a run whose verification is known."""

    def __init__(self, verification):
        super().__init__(build_record())
        self._verification = verification

    def of(self, topic):
        return self._verification if topic.name == "verification" else super().of(topic)


def tell(verification):
    return tell_verification(Known(verification))


def write(verification, **options):
    stream = io.StringIO()
    console = Console(file=stream, width=100, color_system=None)
    write_report(console, VERIFIED, Known(verification), **options)
    return stream.getvalue()


def rows_of(verification):
    return {row.label: row.text for row in tell(verification).rows}


def test_the_table_has_a_row_for_each_batch_and_marks_the_recommended_one():
    branches = [add_held_out(branch, 0.1) for branch in make_all()]
    branches += [make_branch(1024, seed, diverged=seed == 1) for seed in range(3)]
    text = write(conclude(branches, make_throughput()))
    assert "> " in text
    assert "diverged, 1 of 3" in text
    assert "at equal time" in text
    assert "gap" in text
    for size in ("32", "64", "128", "256", "512", "1,024"):
        assert f" {size} " in text


def test_columns_without_figures_are_left_out():
    text = write(conclude(make_all()))
    assert "equal time" not in text
    assert "gap" not in text
    assert "sharpness" not in text


def test_the_sharpness_has_its_spread_and_its_slope():
    sharp = [
        msgspec.structs.replace(
            branch, sharpness=2.5 + 0.5 * (branch.global_batch_size == 32) * branch.seed
        )
        for branch in make_all()
    ]
    found = conclude(sharp)
    text = write(found)
    assert "3.00 ± 1.24" in text
    assert "sharpness: of the training loss at the end" in " ".join(text.split())
    assert "sharpness at the end changes by" in rows_of(found)["Minimum"]


def test_why_there_is_no_sharpness_is_said():
    failed = [
        msgspec.structs.replace(branch, sharpness_failure="it is too slow") for branch in make_all()
    ]
    rows = rows_of(conclude(failed))
    assert rows["Minimum"] == "sharpness not measured: it is too slow"
    some = [
        msgspec.structs.replace(branch, sharpness=None if branch.sharpness_failure else 1.0)
        for branch in [*failed[:3], *make_all()[3:]]
    ]
    rows = rows_of(conclude(some))
    assert "; branches without a sharpness: it is too slow" in rows["Minimum"]
    assert "Minimum" not in rows_of(conclude(make_all()))


def test_the_start_of_the_branches_is_named():
    record = make_record(make_all())
    assert "from step 100" in rows_of(conclude(make_all()))["Verified"]
    saved = msgspec.structs.replace(record, checkpoint="late.pt", trunk_steps=0)
    rows = rows_of(conclude_verification(saved, None))
    assert "from the checkpoint late.pt" in rows["Verified"]


@pytest.mark.parametrize(
    ("recommended", "said"),
    [(512, "The recommendation holds"), (32, "The recommendation does not hold")],
)
def test_the_headline_is_the_verdict(recommended, said):
    found = conclude(make_all(), make_throughput(fixed_s=0.01, sample_s=1e-6), recommended)
    assert write(found, headline_only=True) == f"{said}: batch {recommended}\n"
    assert said in write(found)


def test_nothing_trained_is_said():
    assert write(None).startswith("No branch was trained.\n")
    assert write(None, is_full=False).startswith("No branch was trained.\n")
    assert tell(None) == Told()


def test_the_first_screen_has_the_verdict_why_the_batches_and_no_line_twice():
    found = conclude(make_all(), make_throughput(fixed_s=0.01, sample_s=1e-6), 32)
    lines = write(found, is_full=False).splitlines()
    assert lines[:2] == [
        "The recommendation does not hold: batch 32",
        f"{found.verdict.reason[0].upper()}{found.verdict.reason[1:]}.",
    ]
    assert any(line.startswith("Critical batch: ") for line in lines)
    assert sum(line.startswith(">  ") for line in lines) == 1
    assert not any("Verified" in line for line in lines)
    assert len(lines) <= MOST_LINES


def test_where_more_seeds_would_tell_the_first_screen_has_the_command():
    found = conclude(make_all())
    unsure = msgspec.structs.replace(found.critical_batch, needed_seeds=7)
    text = write(msgspec.structs.replace(found, critical_batch=unsure), is_full=False)
    assert f"→ bsadvisor verify last {build_record().workload.file} --seeds 7" in text


def test_a_run_that_was_verified_says_so_and_does_not_ask_for_it_again():
    found = conclude(make_all(), make_throughput(fixed_s=0.01, sample_s=1e-6), 32)
    derived = msgspec.structs.replace(build_derived(), verification=found)
    known = GivenConclusions(build_record(), derived)
    (status,) = (each for each in list_statuses(RUN, known) if each.label == "Verified")
    assert status.text.startswith("batch 32 does not hold: ")
    assert RUN.screen(known).next_step == ""
    before = GivenConclusions(build_record(), build_derived())
    assert RUN.screen(before).next_step.startswith("bsadvisor verify last ")


def test_warnings_are_rows():
    branches = [add_held_out(b, 0.01 * b.global_batch_size + 0.001 * b.seed) for b in make_all()]
    rows = rows_of(conclude(branches))
    assert "Keskar" in rows["Warning"]
    assert "each doubling" in rows["Held out"]


@pytest.mark.parametrize(
    ("critical", "said"),
    [
        ({"status": "at_least", "batch_size": 512, "low": 512}, "at least 512 as measured"),
        ({"status": "at_most", "batch_size": 32}, "32 or below as measured"),
        (
            {"status": "measured", "batch_size": 64, "low": 64, "high": 128},
            "batch 64 (from 64 to below 128) as measured",
        ),
        ({"status": "measured", "batch_size": 64}, "batch 64 as measured"),
        ({"status": "measured", "batch_size": 64, "low": 32}, "batch 64 (from 32) as measured"),
        ({"status": "measured", "batch_size": 64, "high": 96}, "batch 64 (below 96) as measured"),
        ({"status": "inconclusive", "needed_seeds": 9}, "about 9 seeds would tell (--seeds)"),
        ({"status": "inconclusive", "margin": 0.1}, "inconclusive: why; margin 0.100"),
    ],
)
def test_every_end_of_the_critical_batch_is_said(critical, said):
    assert said in describe_critical_batch(CriticalBatch(reason="why", **critical))


def test_noise_that_hides_the_answer_is_marked():
    text = write(conclude(make_all(spread=0.2, rng=random.Random(1)), make_throughput()))
    assert " ?" in text
    assert "inconclusive" in text


def test_losses_are_drawn_over_samples_and_time():
    found = conclude(make_all(), make_throughput())
    samples, time = map(prepare, tell(found).charts)
    assert [line.label for line in samples.lines] == ["32", "64", "128, recommended", "256", "512"]
    assert all(line.data for line in time.lines)
    samples, time = map(prepare, tell(conclude(make_all())).charts)
    assert samples is not None
    assert time is None


def test_losses_below_zero_are_drawn_on_a_plain_axis():
    branches = [
        msgspec.structs.replace(
            branch,
            evaluations=tuple(
                msgspec.structs.replace(one, loss=one.loss - 1.0) for one in branch.evaluations
            ),
        )
        for branch in make_all()
    ]
    chart = prepare(tell(conclude(branches)).charts[0])
    assert draw_figure(chart)["layout"]["yaxis"]["type"] == "linear"


def test_the_page_has_table_charts_and_findings():
    page = render_page(VERIFIED, Known(conclude(make_all(), make_throughput())))
    assert "Training loss against time" in page
    assert "Verified" in page
    assert "at equal time" in page
