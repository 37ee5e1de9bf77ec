import json

import pytest
from typer.testing import CliRunner

from advisor.cli import app
from advisor.engine.document import json_schema, read_record
from advisor.engine.record import Conclusions
from advisor.engine.spec import Limits, Spec
from advisor.errors import DeviceError, UsageError, WorkloadError
from advisor.questions import KINDS, read_run
from advisor.rate.range_data import RANGE, RangePlan
from advisor.rate.range_stage import KIND
from advisor.training.data import WorkloadSpec
from tests.unit.rate.range_samples import build_lr_range, draw_curves

pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture
def session(monkeypatch):
    """A session that trains nothing: it returns a range test built by hand, or fails as told."""

    class Fake:
        spec, asked, error, record = None, None, None, build_lr_range()

    def execute(kind, spec, *, argv, progress, save, asked, held, began_s, shows_output, leader):
        Fake.spec, Fake.asked = spec, dict(asked)
        progress.stage("learning-rate range test", left_s=10.0)
        if Fake.record is not None:
            save(Conclusions(Fake.record))
        if Fake.error is not None:
            raise Fake.error
        return Fake.record

    monkeypatch.setattr("advisor.engine.command.execute", execute)
    return Fake


def run(*arguments):
    return CliRunner().invoke(app, ["lr-range", *map(str, arguments)])


def test_every_option_reaches_the_session(session):
    arguments = "--device cpu --precision bf16 --global-batch-size 64 --micro-batch-size 16"
    arguments += " --from 1e-6 --to 2 --steps 150 --seeds 5 --budget 1m --seed 3 --set width=8 -q"
    result = run("m.py", *arguments.split())
    assert result.exit_code == 0, result.output
    workload = WorkloadSpec(
        target="m.py", settings={"width": "8"}, device="cpu", precision="bf16", seed=3
    )
    assert session.spec == Spec(workload=workload, limits=Limits(budget_s=60.0))
    assert session.asked == {
        RANGE: RangePlan(
            global_batch_size=64,
            micro_batch_size=16,
            low_rate=1e-6,
            high_rate=2.0,
            steps=150,
            seeds=5,
        )
    }


def test_results_go_to_stdout_and_progress_to_stderr(session):
    result = run("m.py")
    assert result.exit_code == 0
    assert result.stdout.startswith("Train at learning rate ")
    assert "range test" in result.stderr


def test_quiet_prints_the_headline_alone(session):
    result = run("m.py", "--quiet")
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""


def test_json_to_stdout_is_one_document_with_the_conclusions(session):
    result = run("m.py", "--json", "-")
    document = json.loads(result.stdout)
    assert document["kind"] == "lr-range"
    assert document["complete"] is True
    assert document["derived"]["learning_rate"]["value"] > 0
    assert len(document["derived"]["lr_range"]["seeds"]) == 3


def test_report_prints_the_saved_document_again(session, empty_folder):
    first = run("m.py", "--json", "range.json")
    again = CliRunner().invoke(app, ["report", "range.json", "--html", "page.html"])
    assert again.exit_code == 0
    assert again.stdout == first.stdout
    assert "<figure>" in (empty_folder / "page.html").read_text(encoding="utf-8")
    assert isinstance(read_record(empty_folder / "range.json", KINDS)[1], KIND.record_type)
    with pytest.raises(UsageError, match="is a range test, not a run"):
        read_run(empty_folder / "range.json")


def test_a_file_whose_plan_stands_with_the_command_is_told_alike(session, empty_folder):
    first = run("m.py", "--json", "range.json")
    path = empty_folder / "range.json"
    document = json.loads(path.read_text())
    document["command"] |= document.pop("range") | {"budget_s": 60.0}
    path.write_text(json.dumps(document))
    assert CliRunner().invoke(app, ["report", "range.json"]).stdout == first.stdout


def test_the_html_page_is_written(session, empty_folder):
    assert run("m.py", "--html", "page.html").exit_code == 0
    assert "seed 2, smoothed" in (empty_folder / "page.html").read_text(encoding="utf-8")


def test_an_inconclusive_test_prints_its_findings_and_exits_3(session):
    session.record = build_lr_range(curves=draw_curves(fall=0.0, noise=0.1))
    result = run("m.py")
    assert result.exit_code == 3
    assert "No learning rate" in result.stdout
    assert "never fell" in result.stderr


def test_an_interrupt_prints_and_keeps_what_was_measured(session, empty_folder):
    session.record = build_lr_range(complete=False, stopped_because="interrupted")
    session.error = KeyboardInterrupt()
    result = run("m.py", "--json", "range.json")
    assert result.exit_code == 130
    assert "(from an incomplete run)" in result.stdout
    document = json.loads((empty_folder / "range.json").read_text())
    assert document["complete"] is False
    assert len(document["lr_ranges"]) == 3


def test_an_interrupt_before_the_first_curve_prints_no_report(session):
    session.record, session.error = None, KeyboardInterrupt()
    result = run("m.py")
    assert result.exit_code == 130
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WorkloadError("m.py:3: ValueError: no", traceback="m.py, line 3"), 5),
        (DeviceError("there is no cuda:3", next_step="Use cpu."), 6),
        (UsageError("m.py has no make_dataset", next_step="Add it."), 2),
    ],
)
def test_a_failure_is_told_with_its_exit_code(session, error, code):
    session.record, session.error = None, error
    result = run("m.py")
    assert result.exit_code == code
    assert result.stdout == ""
    assert error.message in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["m.py", "--from", "0"],
        ["m.py", "--from", "-1"],
        ["m.py", "--to", "nan"],
        ["m.py", "--to", "fast"],
        ["m.py", "--steps", "5"],
        ["m.py", "--seeds", "1"],
        ["m.py", "--global-batch-size", "0"],
        ["m.py", "--precision", "fp32,bf16"],
        ["m.py", "--json", "missing/range.json"],
        ["m.py", "--html", "."],
    ],
)
def test_usage_errors_exit_2_with_nothing_on_stdout(session, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr
    assert "Traceback" not in result.stderr


def test_the_schema_of_its_document_is_published():
    assert "LrRangeCurve" in json_schema(KINDS["lr-range"])["$defs"]
    result = CliRunner().invoke(app, ["schema", "lr-range"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["$ref"].endswith("LrRangeDocument")
