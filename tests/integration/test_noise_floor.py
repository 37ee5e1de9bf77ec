"""`bsadvisor noise-floor` on real sessions."""

import json
import signal
import subprocess
import sys
import time

import pytest

from advisor.noise_floor import question
from tests.integration.probe_command import ROOT, heed_interrupts

pytestmark = pytest.mark.slow

MODEL = str(ROOT / "tests" / "workloads" / "good" / "dropout.py")
#: Ends a wait that would never end.
PATIENCE_S = 60
#: A parameter of the model file chooses what is trained.
SETTABLE = """
import torch

def make_model(width: int = 3):
    assert width == 5, "the setting did not arrive"
    return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 2))

def make_dataset():
    return [(torch.randn(4), i % 2) for i in range(64)]

def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)
"""


def test_a_model_is_timed_against_itself(run_command, tmp_path, monkeypatch):
    monkeypatch.setattr(question, "_MOST_SESSIONS", 5)
    path = tmp_path / "aa.json"
    done = run_command(
        *("noise-floor", MODEL, "--micro-batch-size", "16", "--budget", "60s"),
        *("--json", path, "--baseline", tmp_path),
    )
    assert done.exit_code == 0, done.stderr
    assert "The model against itself" in done.stdout
    assert "at batch 16" in done.stdout
    document = json.loads(path.read_text())
    comparison = document["derived"]
    assert comparison["sessions"] == len(document["probes"]) == 5
    assert comparison["spread_fraction"] > 0.0
    assert set(comparison["smallest_effects"]) == {"4", "7", "10"}


def test_too_short_a_budget_is_inconclusive(run_command, tmp_path):
    done = run_command("noise-floor", MODEL, "--budget", "0.1s", "--baseline", tmp_path)
    assert done.exit_code == 3
    assert "Raise --budget" in done.stderr
    assert done.stdout == ""


def test_a_broken_model_file_is_the_users(run_command, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("def make_model(:\n")
    done = run_command("noise-floor", path, "--baseline", tmp_path)
    assert done.exit_code == 5
    assert "broken.py:1" in done.stderr


def test_ctrl_c_keeps_and_prints_the_sessions_so_far_in_the_users_configuration(tmp_path):
    model, path = tmp_path / "model.py", tmp_path / "aa.json"
    model.write_text(SETTABLE)
    options = ["--device", "cpu", "--set", "width=5", "--seed", "3", "--precision", "bf16"]
    process = subprocess.Popen(
        [sys.executable, "-m", "advisor.cli", "noise-floor", model, *options, "--json", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if path.exists() and json.loads(path.read_text())["probes"]:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "(from an incomplete run)" in told
    assert "bf16, seed 3, width=5" in told
    document = json.loads(path.read_text())
    assert (document["schema_version"], document["complete"]) == (1, False)
    assert document["stopped_because"] == "interrupted"
    assert document["command"]["settings"] == {"width": "5"}
    assert document["derived"]["sessions"] == len(document["probes"]) >= 1
