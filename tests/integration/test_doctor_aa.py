"""`bsadvisor doctor --aa` on real sessions."""

import json
import subprocess
import sys

from tests.integration.probe_command import ROOT

MODEL = str(ROOT / "tests" / "workloads" / "good" / "dropout.py")


def run_doctor(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "advisor.cli", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_a_model_is_timed_against_itself(tmp_path):
    path = tmp_path / "aa.json"
    done = run_doctor("--aa", MODEL, "--micro-batch-size", "16", "--budget", "15s", "--json", path)
    assert done.returncode == 0, done.stderr
    assert "The model against itself" in done.stdout
    assert "at batch 16" in done.stdout
    document = json.loads(path.read_text())
    comparison = document["derived"]
    assert comparison["sessions"] == len(document["probes"]) >= 4
    assert comparison["spread_fraction"] > 0.0
    assert set(comparison["smallest_effects"]) == {"3", "5", "10", "20"}


def test_too_short_a_budget_is_inconclusive():
    done = run_doctor("--aa", MODEL, "--budget", "0.1s")
    assert done.returncode == 3
    assert "Raise --budget" in done.stderr
    assert done.stdout == ""


def test_a_broken_model_file_is_the_users(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("def make_model(:\n")
    done = run_doctor("--aa", str(path))
    assert done.returncode == 5
    assert "broken.py:1" in done.stderr
