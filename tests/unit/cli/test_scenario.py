import msgspec
import pytest
import typer
from typer.testing import CliRunner

from advisor.advice.data import Moment, Scenario
from advisor.cli import app
from advisor.cli.scenario import OnPaper, build_scenario
from advisor.engine.document import encode_document
from advisor.questions import RUN, read_run
from tests.given import GivenConclusions
from tests.unit.report.sample_run import build_derived, build_record


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.json"
    path.write_bytes(encode_document(RUN, GivenConclusions(build_record(), build_derived())))
    return path


def build(saved=None, **options):
    return build_scenario(OnPaper(**options), saved)


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_every_option_has_its_place():
    scenario = build(
        gpus="8, 1,2",
        price_per_gpu_hour=2.5,
        interconnect="12.5",
        epochs=90.0,
        milestones="30e,60E",
        gamma=0.2,
    )
    assert scenario.gpus == (1, 2, 8)
    assert scenario.interconnect.bytes_per_s == 12.5e9
    assert scenario.milestones == (Moment(at=30, unit="epoch"), Moment(at=60, unit="epoch"))
    assert (scenario.price_per_gpu_hour, scenario.epochs, scenario.gamma) == (2.5, 90.0, 0.2)
    assert build(cosine="9000").cosine == Moment(at=9000)


def test_what_is_not_given_stays_as_it_was_saved():
    old = Scenario(gpus=(1, 2), price_per_gpu_hour=1.0, samples=10, milestones=(Moment(at=3),))
    assert build(old) == old
    new = build(old, price_per_gpu_hour=4.0, epochs=2.0, cosine="9e")
    assert new == Scenario(
        gpus=(1, 2), price_per_gpu_hour=4.0, epochs=2.0, cosine=Moment(at=9, unit="epoch")
    )
    assert build(new, milestones="5", samples=7) == Scenario(
        gpus=(1, 2), price_per_gpu_hour=4.0, samples=7, milestones=(Moment(at=5),)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"gpus": "0"},
        {"gpus": "1,,2"},
        {"gpus": "two"},
        {"gpus": "-1"},
        {"price_per_gpu_hour": 0.0},
        {"price_per_gpu_hour": -2.0},
        {"price_per_gpu_hour": float("nan")},
        {"price_per_gpu_hour": float("inf")},
        {"samples": 0},
        {"epochs": 0.0},
        {"samples": 1, "epochs": 1.0},
        {"milestones": "60e,30e"},
        {"milestones": "30e,60"},
        {"milestones": "30e,30e"},
        {"milestones": ""},
        {"cosine": "soon"},
        {"cosine": "0"},
        {"cosine": "1e3"},
        {"cosine": "e"},
        {"milestones": "30e", "cosine": "9"},
        {"gamma": 1.0},
        {"gamma": 0.0},
    ],
)
def test_what_is_impossible_is_refused(options):
    with pytest.raises(typer.BadParameter):
        build(**options)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--price", "-1"],
        ["--price", "cheap"],
        ["--gpus", "0"],
        ["--interconnect", "string"],
        ["--samples", "5", "--epochs", "5"],
        ["--milestones", "x"],
        ["--gamma", "2"],
    ],
)
def test_usage_errors_exit_2_with_nothing_on_stdout(saved, arguments):
    result = run("report", saved, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert arguments[0].lstrip("-") in result.stderr
    assert "Traceback" not in result.stderr


def test_a_saved_scenario_is_read_again(saved):
    record = build_record()
    assert read_run(saved).scenario is None
    scenario = build(gpus="1,4", interconnect="nvlink", epochs=3.0, milestones="1e")
    given = GivenConclusions(msgspec.structs.replace(record, scenario=scenario), build_derived())
    saved.write_bytes(encode_document(RUN, given))
    assert read_run(saved).scenario == scenario


@pytest.mark.parametrize(
    "stored",
    [{"epochs": 0.0}, {"samples": 0}, {"price_per_gpu_hour": -2.0}, {"cosine": {"at": 0.0}}],
)
def test_a_file_with_what_no_option_takes_is_refused(stored):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(stored, Scenario)
