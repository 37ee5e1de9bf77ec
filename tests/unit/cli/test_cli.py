import ast
import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from advisor.cli import app, options
from advisor.cli.failures import write_failure
from advisor.engine import record as engine_record
from advisor.engine.document import encode_document, read_record
from advisor.engine.nodes import Leader
from advisor.errors import DeviceError, InconclusiveError, InternalError, WorkloadError
from advisor.questions import KINDS, RUN
from advisor.training.data import Precision
from tests.given import GivenConclusions
from tests.unit.report.sample_run import (
    build_derived,
    build_environment,
    build_record,
    without,
)

ROOT = Path(__file__).parents[3]


pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture
def session(monkeypatch):
    """A session that measures nothing: it returns a run built by hand, or fails as told."""

    class Fake:
        spec, error, record, saved = None, None, build_record(), ()
        asked, derived = None, build_derived()

    def execute(kind, spec, *, argv, progress, save, asked, held, began_s, shows_output, leader):
        assert kind is RUN
        Fake.spec, Fake.asked = spec, dict(asked)
        progress.stage("memory", left_s=10.0)
        for record in Fake.saved:
            save(engine_record.Conclusions(record))
            Fake.watch()
        if Fake.error is not None:
            raise Fake.error
        save(engine_record.Conclusions(Fake.record))
        return Fake.record

    Fake.watch = lambda: None
    monkeypatch.setattr("advisor.engine.command.execute", execute)
    monkeypatch.setattr("advisor.engine.command.examine", lambda device: build_environment())
    monkeypatch.setattr(
        "advisor.engine.record.Conclusions",
        lambda record: GivenConclusions(record, Fake.derived),
    )
    return Fake


def read_saved(path):
    return read_record(path, KINDS)[1]


def run(*arguments, **environment):
    return CliRunner().invoke(app, [str(one) for one in arguments], env=environment)


def commands():
    return typer.main.get_command(app).commands


def test_help_imports_neither_torch_nor_numpy():
    code = (
        "import sys\nfrom advisor.cli import main\nsys.argv = ['bsadvisor', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print({'torch', 'numpy', 'scipy', 'msgspec', 'jinja2', 'plotly'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == "set()"


def test_every_command_and_option_has_a_help_text():
    assert set(commands()) >= {"probe", "report", "schema", "init", "doctor"}
    for command in commands().values():
        assert command.help
        assert all(parameter.help for parameter in command.params)


def test_every_option_has_the_environment_variable_of_its_name():
    for command in commands().values():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                name = max(parameter.opts, key=len).lstrip("-").replace("-", "_").upper()
                assert parameter.envvar == f"BSADVISOR_{name}"


def test_every_command_and_option_is_in_the_docs():
    text = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    for name, command in commands().items():
        assert f"bsadvisor {name}" in text
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert max(parameter.opts, key=len) in text


def test_precisions_are_those_of_the_spec():
    assert get_args(options.PrecisionName) == get_args(Precision)


def test_version_is_printed():
    assert run("--version").stdout.startswith("bsadvisor ")


def test_probe_hands_every_option_to_the_session(session):
    result = run(
        *[
            "probe",
            "model.py",
            "--device",
            "cpu",
            "--memory-limit",
            "10GiB",
            "--headroom",
            "512MiB",
        ],
        *["--precision", "bf16", "--compile", "--budget", "2m", "--seed", "7", "--set", "a=1"],
        *["--set", "b=2", "--base-batch-size", "32", "--max-batch", "512", "--batch-multiple", "8"],
        *["--noise-steps", "40", "--reserve", "--checkpoint", "a.pt", "--checkpoint", "b.pt"],
        *["--noise-log", "log.jsonl", "--sample-unit", "token", "--global-batch-size", "96"],
        *["--sharpness", "--train-steps", "9000", "--no-loader", "--epoch-overhead", "2m"],
    )
    assert result.exit_code == 0, result.output
    workload, limits = session.spec.workload, session.spec.limits
    assert msgspec.to_builtins(workload) == {
        "target": "model.py",
        "script": None,
        "settings": {"a": "1", "b": "2"},
        "device": "cpu",
        "precision": "bf16",
        "compile": True,
        "seed": 7,
        "base_batch_size": 32,
        "closure": None,
        "smallest_batch": 1,
        "checkout": None,
    }
    assert msgspec.to_builtins(limits) == {
        "memory_limit_bytes": 10 * 2**30,
        "headroom_bytes": 512 * 2**20,
        "max_micro_batch_size": 512,
        "batch_multiple": 8,
        "global_batch_size": 96,
        "budget_s": 120.0,
        "noise_steps": 40,
        "reserve": True,
        "checkpoints": ("a.pt", "b.pt"),
        "noise_log": "log.jsonl",
        "sample_unit": "token",
        "sharpness": True,
        "train_steps": 9000,
        "no_loader": True,
        "epoch_overhead_s": 120.0,
    }


def test_a_flag_beats_the_environment_which_beats_the_file(session, empty_folder):
    (empty_folder / "pyproject.toml").write_text(
        '[tool.bsadvisor]\nbudget = "1h"\nseed = 1\nmemory-limit = "1GiB"\nset = {a = 1}\n'
    )
    variables = {"BSADVISOR_SEED": "2", "BSADVISOR_MEMORY_LIMIT": "2GiB"}
    run("probe", "m.py", "--memory-limit", "3GiB", **variables)
    assert session.spec.limits.budget_s == 3600
    assert session.spec.workload.seed == 2
    assert session.spec.limits.memory_limit_bytes == 3 * 2**30
    assert session.spec.workload.settings == {"a": "1"}


def test_results_go_to_stdout_and_progress_to_stderr(session):
    result = run("probe", "model.py")
    assert result.stdout.startswith(
        "Train with batch 192 (micro-batch 192 × 1), learning rate 1.41"
    )
    assert result.stderr.startswith("[  0 s] memory")


def test_quiet_prints_the_headline_alone(session):
    result = run("probe", "model.py", "--quiet")
    assert result.stdout == "Train with batch 192 (micro-batch 192 × 1), learning rate 1.41\n"
    assert result.stderr == ""


def test_json_to_stdout_is_one_document_and_nothing_else(session):
    result = run("probe", "model.py", "--json", "-")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["derived"]["recommendation"]["global_batch_size"] == 192


def test_the_json_file_is_written_after_each_result(session, empty_folder):
    path, seen = empty_folder / "run.json", []
    session.saved = (build_record(complete=False),)
    session.watch = lambda: seen.append(read_saved(path).complete)
    assert run("probe", "model.py", "--json", path).exit_code == 0
    assert seen == [False]
    assert read_saved(path) == build_record()


def test_an_interrupt_prints_and_keeps_what_was_measured(session, empty_folder):
    path = empty_folder / "run.json"
    session.saved, session.error = (build_record(complete=False),), KeyboardInterrupt()
    session.derived = without(build_derived(), recommendation=None)
    result = run("probe", "model.py", "--json", path)
    assert result.exit_code == 130
    assert result.stdout.startswith("No advice on training: the run is incomplete")
    assert not read_saved(path).complete


def test_an_interrupt_still_gives_json_readers_one_document(session):
    session.saved, session.error = (build_record(complete=False),), KeyboardInterrupt()
    result = run("probe", "model.py", "--json", "-")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["complete"] is False


def test_an_interrupt_before_the_first_result_prints_no_report(session):
    session.error = KeyboardInterrupt()
    result = run("probe", "model.py")
    assert (result.exit_code, result.stdout) == (130, "")


def test_a_run_without_a_recommendation_exits_3(session):
    session.derived = without(build_derived(), recommendation=None)
    result = run("probe", "model.py")
    assert result.exit_code == 3
    assert "640" in result.stdout
    assert "bsadvisor:" not in result.stderr  # the headline says why


def test_the_other_nodes_end_with_the_code_of_a_run_without_a_recommendation(session, monkeypatch):
    session.derived = without(build_derived(), recommendation=None)
    ends, leave = [], Leader.__exit__

    def see(self, kind, error, frames):
        ends.append(getattr(error, "exit_code", error))
        leave(self, kind, error, frames)

    monkeypatch.setattr(Leader, "__exit__", see)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    Path("train.py").write_text("")
    places = ("--nnodes", "2", "--node-rank", "0", "--rdzv-endpoint", f"127.0.0.1:{port}")
    result = run("probe", *places, "train.py", "--", "--batch-size", "{batch_size}")
    assert (result.exit_code, ends) == (3, [3])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_fault_of_ours(session, number):
    session.error = OSError(number, os.strerror(number))
    result = run("probe", "model.py")
    assert result.exit_code == 2
    assert f"bsadvisor: cannot write: {os.strerror(number)}." in result.stderr


def test_an_inconclusive_run_prints_what_was_measured(session):
    session.saved = (build_record(),)
    session.error = InconclusiveError("sessions disagree", next_step="Close other programs")
    result = run("probe", "model.py")
    assert result.exit_code == 3
    assert "Train with" in result.stdout
    assert result.stderr.endswith("bsadvisor: sessions disagree.\nClose other programs.\n")


def test_a_failing_model_file_shows_the_users_traceback_and_what_to_do(session):
    session.error = WorkloadError(
        "make_model in m.py, line 3, raised ValueError",
        next_step="Mend make_model.",
        traceback="Traceback (most recent call last):\n  File m.py\nValueError: x\n",
    )
    result = run("probe", "m.py", "--quiet")
    assert result.exit_code == 5
    assert result.stderr == (
        "Traceback (most recent call last):\n  File m.py\nValueError: x\n\n"
        "bsadvisor: make_model in m.py, line 3, raised ValueError.\nMend make_model.\n"
    )


def test_a_failure_after_the_throughput_prints_what_was_measured(session):
    record = build_record(complete=False)
    timed = msgspec.structs.replace(record.probes[0], stage="throughput")
    session.saved = (without(record, probes=(*record.probes, timed)),)
    session.error = WorkloadError("m.py crashed", next_step="Mend it")
    plain, document = run("probe", "m.py"), run("probe", "m.py", "--json", "-")
    assert plain.exit_code == document.exit_code == 5
    assert "Train with" in plain.stdout
    assert plain.stderr.endswith("bsadvisor: m.py crashed.\nMend it.\n")
    assert json.loads(document.stdout)["complete"] is False


def test_a_failure_in_the_memory_search_prints_no_report(session):
    session.saved = (build_record(complete=False),)
    session.error = WorkloadError("m.py crashed")
    result = run("probe", "m.py")
    assert (result.exit_code, result.stdout) == (5, "")


def test_a_missing_device_exits_6(session):
    session.error = DeviceError("there is no cuda:7")
    assert run("probe", "m.py").exit_code == 6


def test_a_fault_of_ours_exits_70_and_shows_its_traceback_only_when_asked(session):
    session.error = RuntimeError("boom")
    plain, verbose = run("probe", "m.py", "--quiet"), run("probe", "m.py", "--quiet", "-v")
    assert plain.exit_code == verbose.exit_code == 70
    assert "RuntimeError: boom" in plain.stderr
    assert "Traceback" not in plain.stderr
    assert "Traceback" in verbose.stderr


def test_a_fault_in_a_worker_is_ours_and_shows_its_traceback_only_when_asked(session):
    session.error = InternalError(
        "KeyError: 3", next_step="Try again", traceback="Traceback\n  deep inside\n"
    )
    plain, verbose = run("probe", "m.py", "--quiet"), run("probe", "m.py", "--quiet", "-v")
    assert plain.exit_code == verbose.exit_code == 70
    assert plain.stderr.startswith(
        "bsadvisor: a fault in bsadvisor itself: KeyError: 3.\nTry again.\nPlease report it"
    )
    assert verbose.stderr.startswith("Traceback\n  deep inside\n\nbsadvisor: a fault")


@pytest.mark.parametrize(
    "arguments",
    [
        ["probe"],
        ["probe", "m.py", "--budget", "soon"],
        ["probe", "m.py", "--memory-limit", "0"],
        ["probe", "m.py", "--precision", "fp8"],
        ["probe", "m.py", "--set", "novalue"],
        ["probe", "m.py", "--seed", "-1"],
        ["probe", "m.py", "--max-batch", "0"],
        ["probe", "m.py", "--json", "missing/run.json"],
        ["probe", "m.py", "--json", "."],
        ["probe", "m.py", "--nonsense"],
        ["nonsense"],
        ["report", "missing.json"],
    ],
)
def test_usage_errors_exit_2_with_nothing_on_stdout(session, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_key_in_pyproject_exits_2(session, empty_folder):
    (empty_folder / "pyproject.toml").write_text("[tool.bsadvisor]\nspeed = 3\n")
    result = run("probe", "m.py")
    assert result.exit_code == 2
    assert "no option speed" in result.stderr


def test_report_prints_what_probe_printed(session, empty_folder):
    path = empty_folder / "run.json"
    probed = run("probe", "model.py", "--json", path)
    reported = run("report", path)
    assert reported.exit_code == 0
    assert reported.stdout == probed.stdout


def test_report_draws_one_html_file(session, empty_folder):
    given = GivenConclusions(build_record(), build_derived())
    (empty_folder / "run.json").write_bytes(encode_document(RUN, given))
    result = run("report", "run.json", "--html", "run.html", "--quiet")
    assert result.exit_code == 0
    assert "<figure>" in (empty_folder / "run.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", KINDS)
def test_the_schema_of_a_kind_allows_no_other(name):
    schema = json.loads(run("schema", *([] if name == "run" else [name])).stdout)
    document = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    assert document["properties"]["kind"]["enum"] == [name]


def test_schema_is_a_json_schema_of_the_document():
    result = run("schema")
    assert "RunDocument" in json.loads(result.stdout)["$defs"]


def test_init_writes_a_file_that_defines_a_workload_and_never_overwrites(empty_folder):
    assert run("init").exit_code == 0
    source = (empty_folder / "model.py").read_text(encoding="utf-8")
    names = {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    assert names == {"make_model", "make_dataset", "make_optimizer"}
    assert run("init").exit_code == 2
    assert run("init", "--force").exit_code == 0
    assert run("init", "missing/model.py").exit_code == 2


@pytest.mark.slow
def test_the_file_of_init_trains(empty_folder):
    torch = pytest.importorskip("torch")
    run("init")
    namespace = {}
    exec((empty_folder / "model.py").read_text(encoding="utf-8"), namespace)
    model, dataset = namespace["make_model"](), namespace["make_dataset"](samples=64)
    optimizer = namespace["make_optimizer"](model)
    inputs, targets = dataset[: namespace["BASE_BATCH_SIZE"]]
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_doctor_prints_the_machine_and_why_a_counter_is_missing(session):
    result = run("doctor")
    assert "Imaginary 9000 (cuda:1)" in result.stdout
    assert "power: the driver does not permit it" in result.stdout
    assert json.loads(run("doctor", "--json", "-").stdout)["device"]["kind"] == "cuda"


def test_a_message_with_its_own_stop_gets_no_second_one(capsys):
    write_failure(DeviceError("Gone!"))
    assert capsys.readouterr().err == "bsadvisor: Gone!\n"
