import json

import msgspec
import pytest
from typer.testing import CliRunner

from advisor.advice.data import Scenario
from advisor.cards.data import Price
from advisor.cards.question import KIND as PREDICTION
from advisor.cli import app
from advisor.engine.document import encode_document, read_record
from advisor.engine.record import Conclusions
from advisor.engine.spec import Limits, Spec
from advisor.errors import UsageError, WorkloadError
from advisor.predict.data import CardsAsked
from advisor.predict.prediction import PREDICTIONS, list_cards
from advisor.questions import KINDS, RUN, read_run
from advisor.training.data import WorkloadSpec
from tests.unit.predict.sample_record import build_record
from tests.unit.samples import ENVIRONMENT, FACTS, make_pairs, make_probes, make_record

pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture
def session(monkeypatch):
    """A session that traces nothing: it returns a prediction built by hand, or fails as told."""

    class Fake:
        spec, error, record = None, None, build_record(gpus=("T4", "L4"))
        asked = training = prices = None

    def execute(kind, spec, *, argv, progress, save, asked, held, began_s, shows_output, leader):
        assert kind is PREDICTION
        Fake.spec, ((_, Fake.asked), (_, Fake.training), (_, Fake.prices)) = spec, asked
        save(Conclusions(Fake.record))
        if Fake.error is not None:
            raise Fake.error
        return Fake.record

    monkeypatch.setattr("advisor.engine.command.execute", execute)
    return Fake


def run(*arguments, **environment):
    return CliRunner().invoke(app, [str(one) for one in arguments], env=environment)


def test_every_option_reaches_the_session(session):
    arguments = "--gpu T4 --gpu L4 --gpu-memory 24GiB --micro-batch-size 8 --headroom 1GiB"
    arguments += " --precision bf16 --expandable-segments --max-batch 64 --batch-multiple 4"
    arguments += " --budget 1m --seed 3 --set width=8 --quiet"
    result = run("predict", "m.py", *arguments.split())
    assert result.exit_code == 0
    assert session.spec == Spec(
        workload=WorkloadSpec(
            target="m.py", settings={"width": "8"}, device="cpu", precision="bf16", seed=3
        ),
        limits=Limits(max_micro_batch_size=64, batch_multiple=4, budget_s=60.0),
    )
    assert session.asked == CardsAsked(
        gpus=("T4", "L4"),
        gpu_memory_bytes=(24 * 2**30,),
        micro_batch_size=8,
        headroom_bytes=2**30,
        expandable_segments=True,
    )


@pytest.fixture
def run_file(empty_folder):
    """A run whose own pair was trained for two epochs."""
    record = make_record(FACTS, make_pairs({}), make_probes())
    record = msgspec.structs.replace(record, environment=ENVIRONMENT, scenario=Scenario(epochs=2.0))
    path = empty_folder / "run.json"
    path.write_bytes(encode_document(RUN, Conclusions(record)))
    return path


def test_a_run_reaches_the_session_with_its_length_and_the_prices(session, run_file):
    prices = ("--gpu-price", "h100=2.5", "--gpu-price", "1.8")
    result = run("predict", "m.py", "--gpu", "T4", "--run", run_file, *prices)
    assert result.exit_code == 0, result.stderr
    assert [pair.global_batch_size for pair in session.training.pairs] == [32]
    assert session.training.samples == 2 * FACTS.dataset_size
    assert session.prices == (
        Price(gpu="H100 SXM", per_hour=2.5),
        Price(gpu=None, per_hour=1.8),
    )
    run("predict", "m.py", "--gpu", "T4", "--run", run_file, "--samples", "7")
    assert session.training.samples == 7


def test_the_last_run_is_meant_by_last_and_another_by_its_number(session, run_file, monkeypatch):
    folder = run_file.parent / "kept"
    monkeypatch.setattr("advisor.engine.kept.find_folder", lambda: folder)
    folder.mkdir()
    run_file.rename(folder / "20260101T000000-run-model.json")
    for name in ("last", "1"):
        assert run("predict", "m.py", "--gpu", "T4", "--run", name, "--quiet").exit_code == 0
        assert session.training.run == name
    assert run("predict", "m.py", "--gpu", "T4", "--run", "2").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--run", "none.json"],
        ["--gpu-price", "H100=free"],
        ["--gpu-price", "-1"],
        ["--gpu-price", "H2OO=1"],
        ["--gpu-price", "H100=1e99"],
        ["--gpu-memory", "1"],
    ],
)
def test_a_run_or_a_price_that_cannot_be_taken_ends_before_anything_runs(session, arguments):
    result = run("predict", "m.py", "--gpu", "T4", *arguments)
    assert (result.exit_code, result.stdout, session.spec) == (2, "", None)
    assert result.stderr


def test_cards_may_come_from_the_environment_and_the_project_file(session, empty_folder):
    run("predict", "m.py", BSADVISOR_GPU="T4 RTX-4090")
    assert session.asked.gpus == ("T4", "RTX-4090")
    (empty_folder / "pyproject.toml").write_text('[tool.bsadvisor]\ngpu = ["L4", "RTX 4090"]\n')
    run("predict", "m.py")
    assert session.asked.gpus == ("L4", "RTX 4090")
    (empty_folder / "pyproject.toml").write_text('[tool.bsadvisor]\ngpu = "RTX 4090"\n')
    run("predict", "m.py")
    assert session.asked.gpus == ("RTX 4090",)


def test_no_card_is_a_usage_error_that_names_the_list(session):
    result = run("predict", "m.py")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--list-gpus" in result.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["m.py", "--gpu-memory", "0"], ["m.py", "--gpu", "T4", "--json", "no/x"]]
)
def test_usage_errors_exit_2_with_nothing_on_stdout(session, arguments):
    result = run("predict", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr


def test_the_list_of_cards_needs_no_model(session):
    result = run("predict", "--list-gpus")
    assert result.exit_code == 0
    assert "H200 SXM" in result.stdout


def test_an_unknown_card_is_a_usage_error_before_anything_runs():
    with pytest.raises(UsageError, match="no GPU 'H2OO'"):
        list_cards(CardsAsked(gpus=("H2OO",)))
    with pytest.raises(UsageError, match="needs a GPU"):
        list_cards(CardsAsked())
    twice = CardsAsked(gpus=("t4", "Tesla T4"), gpu_memory_bytes=(2**30,))
    assert [gpu.name for gpu in list_cards(twice)] == ["T4", "GPU of 1 GiB"]


def test_the_document_on_stdout_has_the_keys_of_the_contract(session):
    result = run("predict", "m.py", "--gpu", "T4", "--json", "-")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert [one["gpu"] for one in document["predictions"]] == ["T4", "L4"]
    for one in document["predictions"]:
        assert isinstance(one["micro_batch_size"], int)
        for key in ("allocated", "reserved", "device_used"):
            estimate = one[f"{key}_bytes"]
            assert estimate["low"] <= estimate["point"] <= estimate["high"]
        assert set(one["max_micro_batch_size"]) == {"point", "low", "high", "confidence"}
    assert {"schema_version", "tool_version", "created_at", "complete"} <= set(document)


def test_a_saved_prediction_is_printed_again_by_report(session, empty_folder):
    first = run("predict", "m.py", "--gpu", "T4", "--json", "p.json", "--full")
    again = run("report", "p.json", "--full")
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert first.stdout == again.stdout
    assert run("report", "p.json", "--quiet").stdout == first.stdout.partition("\n\n")[0] + "\n"
    assert run("report", "p.json", "--html", "p.html").exit_code == 0
    assert "<h1>" in (empty_folder / "p.html").read_text(encoding="utf-8")


def test_conclusions_are_computed_again_from_the_stored_traces(empty_folder):
    record = build_record()
    path = empty_folder / "p.json"
    path.write_bytes(encode_document(PREDICTION, Conclusions(record)))
    saved = read_record(path, KINDS)[1]
    assert isinstance(saved, PREDICTION.record_type)
    assert saved == record
    assert Conclusions(saved).of(PREDICTIONS)[0].gpu == "T4"


def test_a_prediction_is_not_taken_for_a_run(empty_folder):
    path = empty_folder / "p.json"
    path.write_bytes(encode_document(PREDICTION, Conclusions(build_record())))
    with pytest.raises(UsageError, match="is a prediction, not a run"):
        read_run(path)


def test_nothing_that_fits_exits_6_after_the_report(session):
    session.record = build_record(gpus=(), gpu_memory_bytes=(512 * 2**20,))
    result = run("predict", "m.py", "--gpu-memory", "512MiB")
    assert result.exit_code == 6
    assert result.stdout.startswith("Predicted, not run")
    assert "not even the smallest batch fits" in result.stderr


def test_a_failing_model_file_leaves_an_incomplete_document(session, empty_folder):
    session.record = build_record(complete=False, traces=())
    session.error = WorkloadError("m.py crashed")
    result = run("predict", "m.py", "--gpu", "T4", "--json", "p.json")
    assert (result.exit_code, result.stdout) == (5, "")
    document = json.loads((empty_folder / "p.json").read_bytes())
    assert (document["complete"], document["predictions"]) == (False, [])


def test_the_schema_of_a_prediction_is_published():
    assert "PredictionDocument" in json.loads(run("schema", "prediction").stdout)["$defs"]
