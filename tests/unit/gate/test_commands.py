"""`baseline record`, `baseline show` and `check`: which baseline is taken, and what is kept."""

import json
import re

import msgspec
import pytest
from typer.testing import CliRunner

from advisor.cli import app
from advisor.errors import WorkloadError
from advisor.gate import store
from advisor.gate.verdict import BASELINE_SESSIONS
from tests.unit.gate.pretended import Training

FOLDER = ".bsadvisor/baselines"


@pytest.fixture
def training(tmp_path, monkeypatch):
    """The training that the commands measure, in a project of its own."""
    made = Training()
    monkeypatch.setattr("advisor.engine.command.execute", made.execute)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "train").mkdir()
    monkeypatch.chdir(tmp_path / "train")
    return made


def run(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code != 70, done.stderr
    return done


def record(*options):
    done = run("baseline", "record", "model.py", *options)
    assert done.exit_code == 0, done.stderr
    return done


def list_baselines(tmp_path):
    return sorted((tmp_path / FOLDER).glob("*.json"))


def change_device(training, **fields):
    environment = training.environment
    device = msgspec.structs.replace(environment.device, **fields)
    training.environment = msgspec.structs.replace(environment, device=device)


def test_a_baseline_is_kept_by_device_and_setting(training, tmp_path):
    done = record("--sessions", "3")
    (path,) = list_baselines(tmp_path)
    assert re.fullmatch(r"it-[0-9a-f]{12}\.json", path.name)
    assert f"written to {path}" in done.stderr
    assert "3 sessions on 1 occasion" in done.stdout
    record("--micro-batch-size", "64")
    change_device(training, name="NVIDIA H200 (MIG 1g.18gb)")
    record()
    names = [each.name for each in list_baselines(tmp_path)]
    assert len(names) == 3
    assert path.name in names
    assert names[-1].startswith("nvidia-h200-mig-1g-18gb-")


def test_show_prints_what_is_there(training, tmp_path):
    record("--sessions=3")
    (path,) = list_baselines(tmp_path)
    for arguments in ((), (path,), (path.parent,)):
        done = run("baseline", "show", *arguments)
        assert done.exit_code == 0
        for text in (path.name, "320/s", "3 sessions", "32.0 MiB at batch 32", "113 of a step"):
            assert text in done.stdout.replace("\n", ""), done.stdout


def test_show_without_a_baseline_says_how_to_record_one(training):
    done = run("baseline", "show")
    assert done.exit_code == 4
    assert "bsadvisor baseline record MODEL" in done.stderr


@pytest.mark.parametrize(
    ("changes", "code", "answer"),
    [
        ({}, 0, "PASS"),
        ({"step_s": 0.125}, 1, "FAIL: throughput 25 % slower"),
        ({"step_s": 0.08}, 0, "IMPROVED: throughput 20 % faster"),
        ({"peak_bytes": 17 << 16}, 1, "FAIL: peak memory 6.2 % more; larger batch 6.2 % more"),
        ({"operators": 131}, 0, "PASS"),
    ],
)
def test_a_check_is_held_against_the_baseline(training, tmp_path, changes, code, answer):
    record()
    before = [path.read_bytes() for path in list_baselines(tmp_path)]
    for name, value in changes.items():
        setattr(training, name, value)
    done = run("check", "model.py", "--json", "check.json")
    assert (done.exit_code, done.stdout.startswith(answer)) == (code, True), done.output
    assert [path.read_bytes() for path in list_baselines(tmp_path)] == before
    document = json.loads((tmp_path / "train" / "check.json").read_text())
    assert document["complete"] is True
    assert len(document["old"][0]["sessions"]) == BASELINE_SESSIONS


def test_one_that_is_gated_changes_nothing_that_is_exact_without_time(training):
    record()
    training.step_s = 0.125
    assert run("check", "model.py", "-q").stdout.count("\n") == 1


def vary_batch(training):
    return ["--micro-batch-size", "64"]


def vary_precision(training):
    return ["--precision", "bf16"]


def vary_setting(training):
    return ["--set", "width=5"]


def vary_arguments(training):
    return ["--", "--batch", "{batch_size}"]


def vary_device(training):
    change_device(training, name="Other")
    return []


def vary_memory(training):
    change_device(training, memory_bytes=80 << 30)
    return []


@pytest.mark.parametrize(
    ("vary", "nearest"),
    [
        (vary_batch, "micro-batch 32"),
        (vary_precision, "precision fp32"),
        (vary_setting, "settings none"),
        (vary_arguments, "arguments none"),
        (vary_device, "device It"),
        (vary_memory, "memory 4 GiB"),
    ],
)
def test_another_setting_has_no_baseline_and_the_nearest_is_named(training, vary, nearest):
    record()
    tasks = len(training.tasks)
    done = run("check", "model.py", *vary(training))
    assert (done.exit_code, done.stdout) == (4, "")
    assert f"the nearest is of {nearest}" in done.stderr
    assert "bsadvisor baseline record model.py" in done.stderr
    assert len(training.tasks) == tasks  # nothing was measured for it


def test_the_nearest_of_several_is_the_one_of_fewest_differences(training):
    record("--precision", "bf16", "--micro-batch-size", "64")
    record("--micro-batch-size", "64")
    assert "the nearest is of micro-batch 64\n" in run("check", "model.py").stderr.replace(
        ".\n", "\n"
    ).replace(" (", "\n")


def test_a_broken_baseline_beside_is_passed_over(training, tmp_path):
    record()
    (tmp_path / FOLDER / "a-broken.json").write_text("{")
    assert run("check", "model.py").exit_code == 0
    done = run("check", "model.py", "--micro-batch-size", "64")
    assert "the nearest is of micro-batch 32" in done.stderr


def test_a_broken_baseline_of_the_setting_is_named(training, tmp_path):
    record()
    (path,) = list_baselines(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    done = run("check", "model.py")
    assert done.exit_code == 2
    assert str(path) in done.stderr


def test_a_missing_baseline_is_recorded_where_that_is_asked_for(training, tmp_path):
    assert run("check", "model.py").exit_code == 4
    done = run("check", "model.py", "--record-if-missing")
    assert done.exit_code == 0
    assert done.stdout.startswith("PASS: there was no baseline, and now there is one: ")
    (path,) = list_baselines(tmp_path)
    assert f"baseline written to {path}" in done.stderr
    before = path.read_bytes()
    done = run("check", "model.py", "--record-if-missing")
    assert done.stdout.startswith("PASS: throughput as it was")
    assert path.read_bytes() == before


def test_ratchet_makes_an_improvement_the_baseline_and_nothing_else(training, tmp_path):
    record()
    (path,) = list_baselines(tmp_path)
    before = path.read_bytes()
    for step_s, code in ((0.1, 0), (0.125, 1)):
        training.step_s = step_s
        assert run("check", "model.py", "--ratchet").exit_code == code
        assert path.read_bytes() == before
    training.step_s = 0.08
    done = run("check", "model.py", "--ratchet")
    assert done.stdout.startswith("IMPROVED")
    assert f"baseline written to {path}" in done.stderr
    (occasion,) = store.read(path)
    assert occasion.sessions[0].step_s[0] == pytest.approx(0.08, rel=0.01)
    training.step_s = 0.1
    assert run("check", "model.py").exit_code == 1


def test_occasions_are_added_while_the_stack_is_the_same(training, tmp_path):
    record()
    record("--add")
    (path,) = list_baselines(tmp_path)
    assert len(store.read(path)) == 2
    training.environment = msgspec.structs.replace(training.environment, torch="2.10")
    record("--add")
    (occasion,) = store.read(path)
    assert occasion.setting.environment.torch == "2.10"


def test_a_changed_stack_is_said_and_gated_where_that_is_asked_for(training):
    record()
    training.step_s = 0.125
    training.environment = msgspec.structs.replace(training.environment, torch="2.10")
    done = run("check", "model.py")
    assert done.exit_code == 3
    assert "torch: 2.10, was 2.9" in done.stdout
    assert run("check", "model.py", "--gate-env-changed").exit_code == 1


@pytest.mark.parametrize("name", ["base.json", "kept", "kept/base.json"])
def test_a_baseline_may_be_kept_elsewhere(training, tmp_path, name):
    record("--baseline", name)
    assert not (tmp_path / FOLDER).exists()
    path = tmp_path / "train" / name
    assert path.is_file() if name.endswith(".json") else len([*path.glob("*.json")]) == 1
    assert run("check", "model.py", "--baseline", name).exit_code == 0
    assert run("check", "model.py").exit_code == 4


@pytest.mark.parametrize("command", [["baseline", "record"], ["check", "--record-if-missing"]])
def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(
    training, tmp_path, command
):
    (tmp_path / "train" / "file").touch()
    done = run(*command, "model.py", "--baseline", "file/base.json")
    assert done.exit_code == 2
    assert "cannot write" in done.stderr
    assert training.tasks == []


def test_what_noise_floor_found_is_in_the_floor(training, tmp_path):
    record()
    (path,) = list_baselines(tmp_path)
    folder = path.parent / "noise-floors"
    folder.mkdir()
    document = {"kind": "self-comparison", "derived": {"spread_fraction": 0.3}}
    (folder / path.name).write_text(json.dumps(document))
    training.step_s = 0.125
    done = run("check", "model.py")
    assert done.exit_code == 3
    (folder / path.name).write_text(json.dumps({"kind": "self-comparison", "derived": 3}))
    done = run("check", "model.py")
    assert done.exit_code == 2
    assert "is none that noise-floor wrote" in done.stderr


@pytest.mark.parametrize("command", [["baseline", "record"], ["check"]])
@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (WorkloadError("it fails"), 5)]
)
def test_what_ends_a_command_leaves_the_baseline_as_it_was(
    training, tmp_path, command, error, code
):
    if command == ["check"]:
        record()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    training.dies_at = (3, error)
    done = run(*command, "model.py", "--json", "out.json")
    assert done.exit_code == code
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    document = json.loads(after.pop(tmp_path / "train" / "out.json"))
    assert after == before
    assert document["complete"] is False
    key = "new" if command == ["check"] else "occasions"
    assert 2 <= len(document[key][0]["sessions"]) <= 3


def test_against_takes_no_baseline(training):
    for options in (["--baseline", "x"], ["--ratchet"], ["--record-if-missing"]):
        done = run("check", "model.py", "--against", "HEAD", *options)
        assert done.exit_code == 2
        assert "takes no baseline" in done.stderr
