import json

import msgspec
import pytest
from typer.testing import CliRunner

from advisor.cli import app
from advisor.engine.document import json_schema, read_record
from advisor.engine.record import Conclusions
from advisor.engine.spec import Limits, Spec
from advisor.errors import InconclusiveError, UsageError
from advisor.noise_floor.data import MICRO_BATCH_SIZE
from advisor.noise_floor.question import KIND
from advisor.questions import KINDS, read_run
from advisor.training.data import WorkloadSpec
from tests.unit.noise_floor.timed_sessions import build_comparison

pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture
def session(monkeypatch):
    """Sessions that time nothing: a record built by hand, saved after each, or a failure."""

    class Fake:
        spec, asked, error, record = None, None, None, build_comparison()

    def execute(kind, spec, *, argv, progress, save, asked, held, began_s, shows_output, leader):
        Fake.spec, Fake.asked = spec, dict(asked)
        progress.stage("session 1 of 20", left_s=10.0)
        for count in range(1 + len(Fake.record.probes)):
            part = {"probes": Fake.record.probes[:count], "complete": False}
            save(Conclusions(msgspec.structs.replace(Fake.record, **part)))
        if Fake.error is not None:
            raise Fake.error
        save(Conclusions(Fake.record))
        return Fake.record

    monkeypatch.setattr("advisor.engine.command.execute", execute)
    return Fake


def run(*arguments):
    return CliRunner().invoke(app, ["noise-floor", *map(str, arguments)])


def test_every_option_reaches_the_session(session):
    arguments = "--device cpu --precision bf16 --compile --micro-batch-size 16"
    arguments += " --budget 1m --seed 3 --set width=8 --set depth=2 -q"
    result = run("m.py", *arguments.split())
    assert result.exit_code == 0, result.output
    workload = WorkloadSpec(
        target="m.py",
        settings={"width": "8", "depth": "2"},
        device="cpu",
        precision="bf16",
        compile=True,
        seed=3,
    )
    assert session.spec == Spec(workload=workload, limits=Limits(budget_s=60.0))
    assert session.asked == {MICRO_BATCH_SIZE: 16}
    assert result.stderr == ""


def test_without_options_the_defaults_are_timed(session):
    assert run("m.py", "--no-compile").exit_code == 0
    limits = Limits(budget_s=120.0)
    assert session.spec == Spec(workload=WorkloadSpec(target="m.py"), limits=limits)
    assert session.asked == {MICRO_BATCH_SIZE: None}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--precision", "fp32,bf16"],
        ["--compile", "off,on"],
        ["--compile=maybe"],
        ["--set", "width"],
        ["--seed", "-1"],
        ["--micro-batch-size", "0"],
        ["--json", "missing/aa.json"],
    ],
)
def test_usage_errors_exit_2_with_nothing_on_stdout(session, arguments):
    result = run("m.py", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


def test_the_document_has_a_version_and_the_configuration(session):
    document = json.loads(run("m.py", "--json", "-").stdout)
    assert document["schema_version"] == 1
    assert document["kind"] == "self-comparison"
    assert document["complete"] is True
    assert document["command"]["precision"] == "bf16"
    assert document["command"]["settings"] == {"width": "8"}
    assert document["derived"]["sessions"] == len(document["probes"]) == 6


def test_an_interrupt_prints_and_keeps_what_was_timed(session, empty_folder):
    session.error = KeyboardInterrupt()
    result = run("m.py", "--json", "aa.json")
    assert result.exit_code == 130
    assert "The model against itself (from an incomplete run)" in result.stdout
    assert "Interrupted" in result.stderr
    document = json.loads((empty_folder / "aa.json").read_text())
    assert document["complete"] is False
    assert document["derived"]["sessions"] == 6


def test_an_interrupt_before_the_first_session_prints_nothing(session, empty_folder):
    session.record, session.error = build_comparison(0), KeyboardInterrupt()
    result = run("m.py", "--json", "aa.json")
    assert result.exit_code == 130
    assert result.stdout == ""
    assert json.loads((empty_folder / "aa.json").read_text())["derived"]["sessions"] is None


def test_too_few_sessions_are_printed_before_the_failure(session):
    session.record, session.error = build_comparison(2), InconclusiveError("fewer than 4")
    result = run("m.py")
    assert result.exit_code == 3
    assert "2 sessions at batch 32" in result.stdout
    assert "fewer than 4" in result.stderr


def test_quiet_leaves_the_figures_for_the_headline_has_none(session):
    result = run("m.py", "--quiet")
    assert "Spread" in result.stdout
    assert result.stderr == ""


def test_report_prints_the_saved_document_again(session, empty_folder):
    first = run("m.py", "--json", "aa.json")
    again = CliRunner().invoke(app, ["report", "aa.json"])
    assert again.exit_code == 0
    assert again.stdout == first.stdout
    assert isinstance(read_record(empty_folder / "aa.json", KINDS)[1], KIND.record_type)
    with pytest.raises(UsageError, match="is a model compared with itself, not a run"):
        read_run(empty_folder / "aa.json")
    page = CliRunner().invoke(app, ["report", "aa.json", "--html", "page.html"])
    assert page.exit_code == 0
    assert "<h1>" in (empty_folder / "page.html").read_text(encoding="utf-8")


def test_the_schema_of_its_document_is_published():
    assert (
        "sessions"
        in json_schema(KINDS["self-comparison"])["$defs"]["SelfComparisonDerived"]["properties"]
    )
    result = CliRunner().invoke(app, ["schema", "self-comparison"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["$ref"].endswith("SelfComparisonDocument")
