"""`baseline` and `check` on real sessions, of a model file and of a script."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest

from tests.integration.conftest import SCRIPTS, WORKLOADS
from tests.integration.probe_command import MARK, end_survivors, heed_interrupts

pytestmark = pytest.mark.slow

MODEL = WORKLOADS / "good" / "dropout.py"
SCRIPT = SCRIPTS / "accumulates.py"
#: Ends a wait that would never end.
SECONDS = 120
#: Whatever this machine does beside, no session takes eleven times as long as another.
CALM = """
[tool.bsadvisor.check]
throughput = { threshold = 10.0 }
first_step = "off"
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text(CALM)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_model_is_held_against_its_baseline(project, run_command):
    done = run_command("baseline", "record", MODEL, "--sessions", "2", "--json", "base.json")
    assert done.exit_code == 0, done.stderr
    (path,) = (project / ".bsadvisor" / "baselines").glob("*.json")
    document = json.loads((project / "base.json").read_text())
    assert [len(each["sessions"]) for each in document["occasions"]] == [2]
    assert document["occasions"] == json.loads(path.read_text())["occasions"]
    assert path.name in run_command("baseline", "show", columns=300).stdout
    done = run_command("check", MODEL, "--json", "check.json")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("PASS: throughput ")
    found = json.loads((project / "check.json").read_text())["derived"]["comparison"]
    outcomes = {each["metric"]: each["outcome"] for each in found["verdicts"]}
    assert outcomes == dict.fromkeys(
        ("throughput", "peak_memory", "largest_batch", "operators"), "pass"
    )
    done = run_command("check", MODEL, "--micro-batch-size", "64")
    assert (done.exit_code, done.stdout) == (4, "")
    assert "the nearest is of micro-batch 32" in done.stderr
    done = run_command("compare", "base.json", "check.json")
    assert done.exit_code == 0, done.output


def test_a_script_is_checked_with_its_arguments(project, run_command):
    own = ("--", "batch={batch_size}", "rate={learning_rate}")
    done = run_command("baseline", "record", SCRIPT, "--sessions", "2", *own)
    assert done.exit_code == 0, done.stderr
    done = run_command("check", SCRIPT, *own)
    assert done.exit_code == 0, done.output


def test_ctrl_c_leaves_no_process_and_no_file_but_the_one_asked_for(project):
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "advisor.cli", "baseline", "record", MODEL, "--json", "out.json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, MARK: mark},
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    out = project / "out.json"
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if out.exists() and json.loads(out.read_text())["occasions"]:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == 130
    assert end_survivors(mark) == ()
    document = json.loads(out.read_text())
    assert (document["complete"], document["stopped_because"]) == (False, "interrupted")
    assert document["occasions"][0]["sessions"]
    assert sorted(each.name for each in project.rglob("*")) == ["out.json", "pyproject.toml"]
