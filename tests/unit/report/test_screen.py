"""The first screen: what decides, within a terminal of 24 lines."""

import io
import json
import os

import msgspec
import pytest
from rich.console import Console

from advisor.advice.tell import write_longer
from advisor.cli import app
from advisor.engine import kept
from advisor.engine.record import Failure
from advisor.questions import RUN
from advisor.report.console import write_report
from advisor.report.markdown import render_markdown
from advisor.report.screen import MOST_LINES
from advisor.statistics import Estimate
from tests.given import GivenConclusions
from tests.unit.report.sample_run import build_derived, build_record, without
from tests.unit.report.test_terminal import bare

replace = msgspec.structs.replace
SLOW = (
    "The loader is the limit: with 2 workers batch 32 trains at 1,230 samples/s, at 98,700 if it "
    "did not wait for data. Set num_workers=8 and persistent_workers=True in the DataLoader, which "
    "ran at 88,000 samples/s; try num_workers=12, which suffices if every worker loads as fast as "
    "those timed: it was not run, and with 8 processors here it can hold only where loading waits."
)
SOAKED = (
    "Micro-batches 640 and 512 fitted for a few steps, but ran out of memory when trained for "
    "longer. Stay at micro-batch 384."
)


def advise(**fields):
    derived = build_derived()
    advice = replace(derived.recommendation, **fields)
    return replace(derived, recommendation=advice)


RUNS = {
    "good gain": (build_record(), build_derived()),
    "stay": (build_record(), advise(basis="stay")),
    "loader-bound": (build_record(), advise(cautions=(SLOW, SOAKED, "A third."))),
    "memory-bound": (build_record(), advise(limiting_factor="memory", cautions=(SOAKED,))),
    "nothing known": (
        replace(build_record(), complete=False, stopped_because="interrupted"),
        bare(build_derived()),
    ),
    "a stage failed": (
        replace(build_record(), failures=(Failure(stage="noise", message="m.py:3: " + 300 * "x"),)),
        without(build_derived(), noise=None),
    ),
}


def show(record, derived, *, width=80, ascii_only=False):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii" if ascii_only else "utf-8")
    console = Console(file=stream, width=width, color_system=None)
    write_report(console, RUN, GivenConclusions(record, derived), is_full=False)
    stream.flush()
    return raw.getvalue().decode()


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("width", [80, 120])
def test_it_fits_on_a_screen_with_the_answer_on_top_and_the_way_on_below(name, width):
    lines = show(*RUNS[name], width=width).splitlines()
    assert len(lines) <= MOST_LINES
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith(("Train with batch", "Stay with batch", "No batch size"))
    assert lines[-1].startswith("Everything else: bsadvisor report --full")


def test_the_marks_are_explained_where_one_says_that_something_is_amiss():
    assert show(*RUNS["good gain"]).splitlines()[-1] == "Everything else: bsadvisor report --full"
    assert show(*RUNS["a stage failed"]).splitlines()[-1].endswith("✓ measured, ? inconclusive")


def test_every_time_of_another_pair_has_its_interval():
    lines = show(*RUNS["good gain"]).splitlines()
    cells = [line for line in lines if " × " in line and "█" in line and line[0] != "b"]
    assert cells
    assert all(" to " in line for line in cells)


def test_it_says_what_to_type_what_that_gains_and_what_limits_it():
    lines = show(*RUNS["good gain"]).splitlines()
    assert lines[0] == "Train with batch 192 (micro-batch 192 × 1), learning rate 1.41"
    assert "Takes 0.46 × (0.42 to 0.5) the time of your batch 32 at 1: measured." in lines
    assert "Limited by gradient noise: larger batches would save too few steps." in lines
    (advised,) = (line for line in lines if line.startswith(">  "))
    (base,) = (line for line in lines if line.startswith("b "))
    assert advised.count("█") < base.count("█")
    assert any(line.startswith("✓ Noise") for line in lines)


def test_at_most_two_warnings_stand_there_and_the_full_report_has_all():
    record, derived = RUNS["loader-bound"]
    text = show(record, derived)
    assert "A third." not in text
    assert text.count("\n! ") == 2


def test_a_stage_that_failed_says_so_in_its_line():
    lines = show(*RUNS["a stage failed"]).splitlines()
    (noise,) = (line for line in lines if "Noise" in line)
    assert noise.startswith("? Noise")
    assert "cut short: m.py:3" in noise


def test_a_narrow_or_plain_terminal_gets_all_of_it():
    assert show(*RUNS["good gain"], width=40)
    text = show(*RUNS["good gain"], ascii_only=True)
    assert text.isascii()
    assert "#####" in text


def test_markdown_has_the_same_and_keeps_text_as_text():
    record, _ = RUNS["good gain"]
    hostile = replace(record.workload, model_name="<script>alert(1)</script>")
    caution = "A | B <b>bold</b>"
    given = GivenConclusions(replace(record, workload=hostile), advise(cautions=(caution,)))
    text = render_markdown(RUN, given)
    assert text.startswith("### Train with batch 192")
    assert "| :-- | --: |" in text
    assert "<script>" not in text
    assert "<b>" not in text


def test_the_command_that_was_typed_is_told_with_the_time_that_it_takes():
    record = build_record()
    own = ("--budget", "9", "--budget=9")  # of the script
    typed = ("bsadvisor", "probe", "a b.py", "--budget", "30s", "--", *own, "--lr", "{lr}")
    command = replace(record.command, argv=typed)
    longer = write_longer(replace(record, command=command), 130.0)
    assert longer == "bsadvisor probe 'a b.py' --budget=3m -- --budget 9 --budget=9 --lr '{lr}'"


def test_where_a_pair_may_well_be_faster_more_time_is_asked_for():
    record, derived = RUNS["stay"]
    pairs = derived.race.pairs
    assert any(pair.time_ratio.point <= 0.9 for pair in pairs)
    asks = RUN.screen(GivenConclusions(replace(record, elapsed_s=40.0), derived)).next_step
    assert asks.endswith("--budget=2m")
    behind = tuple(replace(pair, time_ratio=Estimate(1.2, 1.1, 1.3)) for pair in pairs)
    slower = replace(derived, race=replace(derived.race, pairs=behind))
    assert RUN.screen(GivenConclusions(record, slower)).next_step == ""


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(kept, "find_folder", lambda: tmp_path / "runs")
    return tmp_path / "runs"


def test_the_newest_runs_are_kept(cache):
    for number in range(kept.MOST_KEPT + 3):
        moment = f"2026-01-01T00:00:{number % 60:02d}+00:00"
        kept.keep(kept.choose_path(moment, "run", f"m/{number} é.py"), b"{}")
    assert len(kept.list_kept()) == kept.MOST_KEPT
    assert kept.resolve("last") == kept.list_kept()[0]
    assert kept.resolve("2") == kept.list_kept()[1]
    assert kept.resolve("run.json").name == "run.json"
    assert all(path.name.isascii() for path in cache.iterdir())


def test_a_cache_that_cannot_be_written_is_none(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept, "find_folder", lambda: tmp_path / "file" / "runs")
    kept.keep(kept.choose_path("2026-01-01T00:00:00+00:00", "run", "m.py"), b"{}")
    assert kept.list_kept() == []


def test_report_shows_the_last_run_and_lists_all(cache, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.delenv("BSADVISOR_FULL", raising=False)
    nothing = CliRunner().invoke(app, ["report"])
    assert nothing.exit_code == 2
    assert "no run last is kept" in nothing.stderr
    document = {**json.loads(msgspec.json.encode(build_record())), "kind": "run"}
    cache.mkdir()
    (cache / "20260201T000000-run-broken.json").write_text("{")
    (cache / "20260101T000000-run-m.json").write_text(json.dumps(document))
    os.utime(cache / "20260201T000000-run-broken.json", (0, 0))
    shown = CliRunner().invoke(app, ["report"])
    assert shown.exit_code == 0, shown.output
    assert "\nEverything else: bsadvisor report --full" in shown.stdout
    listed = CliRunner().invoke(app, ["report", "--list"])
    assert listed.exit_code == 0
    assert "probe" in listed.stdout
    assert "is not a run" in " ".join(listed.stdout.split())  # folded where the path is long
