"""`bsadvisor verify` with real workers on examples/digits.py."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from advisor.cli import app
from tests.integration.probe_command import heed_interrupts
from tests.unit.verify.advised_digits import EXAMPLE, build_ranged_run, write_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_servers")]

#: Short branches: 20 steps of the recommended batch.
SHORT = ("--branch-samples", "1280", "--seeds", "2", "--device", "cpu")
#: So long that a busy machine leaves no sharpness out.
PATIENT = ("--budget", "2h")
BATCHES = [16, 32, 64, 128]
HELD_OUT = """

def make_val_dataset():
    images, labels = make_dataset().tensors
    return TensorDataset(images[:300] + 0.1, labels[:300])
"""


@pytest.fixture
def run_file(tmp_path):
    path = tmp_path / "run.json"
    assert write_run(path).global_batch_size == 64
    return path


def verify(*arguments):
    return CliRunner().invoke(app, ["verify", *map(str, arguments)], env={"NO_COLOR": "1"})


def read(path):
    document = json.loads(path.read_text())
    return document["verification"], document["derived"]["verification"]


def list_branches(raw):
    return [(one["seed"], one["global_batch_size"]) for one in raw["branches"]]


def test_branches_are_stored_and_reported_and_not_trained_twice(run_file):
    result = verify(run_file, EXAMPLE, *SHORT, *PATIENT, "--batches", "16,32,128")
    assert result.exit_code in {0, 3}, result.output
    raw, found = read(run_file)
    assert list_branches(raw) == [(seed, size) for seed in (0, 1) for size in BATCHES]
    assert len({one["evaluations"][0]["loss"] for one in raw["branches"]}) == 1
    assert found["recommended_batch_size"] == 64
    assert [one["global_batch_size"] for one in found["batches"]] == BATCHES
    assert all(one["step_s"] for one in found["batches"])
    assert "Critical" in result.stdout
    assert all((one["sharpness"] is None) == (one["diverged"] > 0) for one in found["batches"])
    assert found["batches"][0]["sharpness"]["low"] is not None
    assert found["sharpness_failure"] is None
    assert found["sharpness_per_doubling"]["point"] is not None
    assert "sharpness at the end changes by" in result.stdout

    again = verify(run_file, EXAMPLE, *SHORT, "--batches", "16,32,128")
    assert again.stdout == result.stdout
    assert read(run_file)[0] == raw

    more = verify(run_file, EXAMPLE, *SHORT, "--batches", "256", "--json", "-")
    document = json.loads(more.stdout)
    assert document["verification"]["branches"][: len(raw["branches"])] == raw["branches"]
    new = document["verification"]["branches"][len(raw["branches"]) :]
    assert {one["global_batch_size"] for one in new} <= {256}

    report = CliRunner().invoke(app, ["report", str(run_file)])
    assert "Verified" in report.stdout

    fresh = verify(run_file, EXAMPLE, *SHORT, "--batches", "32", "--restart", "--quiet")
    assert fresh.exit_code in {0, 3}
    assert list_branches(read(run_file)[0]) == [(0, 32), (0, 64), (1, 32), (1, 64)]


def test_a_changed_model_file_is_trained_anew_and_held_out_data_shows_the_gap(run_file, tmp_path):
    model = tmp_path / "model.py"
    model.write_text(EXAMPLE.read_text())
    verify(run_file, model, *SHORT, "--batches", "16,32")
    before, found = read(run_file)
    assert found["gap_per_doubling"] is None
    model.write_text(EXAMPLE.read_text() + HELD_OUT)
    copy = tmp_path / "copy.json"
    result = verify(run_file, model, *SHORT, "--batches", "16,32", "--json", copy)
    after, found = read(run_file)
    assert after["model_sha256"] != before["model_sha256"]
    assert all(one["held_out"] for one in after["branches"])
    assert found["gap_per_doubling"]["point"] is not None
    assert "Held out" in result.stdout
    assert json.loads(copy.read_text())["verification"] == after


def save_weights(path, width):
    import torch

    torch.manual_seed(0)
    shapes = {"0": (width, 64), "2": (10, width)}
    weights = {f"{k}.weight": torch.randn(v) / 8 for k, v in shapes.items()}
    torch.save({**weights, **{f"{k}.bias": torch.zeros(v[0]) for k, v in shapes.items()}}, path)


def test_branches_start_from_a_checkpoint_and_one_of_another_model_is_refused(run_file, tmp_path):
    path, arguments = tmp_path / "weights.pt", (*SHORT, "--batches", "32", "--checkpoint")
    save_weights(path, 128)
    result = verify(run_file, EXAMPLE, *arguments, path)
    assert result.exit_code in {0, 3}, result.output
    raw, found = read(run_file)
    assert raw["checkpoint"] == found["from_checkpoint"] == str(path)
    assert (raw["trunk_steps"], raw["state_steps"]) == (0, 100)
    assert "from the checkpoint" in " ".join(result.stdout.split())
    assert list_branches(raw) == [(0, 32), (0, 64), (1, 32), (1, 64)]
    save_weights(path, 64)
    result = verify(run_file, EXAMPLE, *arguments, path)
    assert result.exit_code == 5
    said = " ".join(result.stderr.split())
    assert "trained anew" in said  # the file has changed
    assert "does not fit the model file" in said
    assert read(run_file)[0] == raw


def test_ctrl_c_keeps_the_branches_and_the_same_command_trains_the_rest(run_file):
    arguments = [str(run_file), str(EXAMPLE), "--branch-samples", "6400", "--seeds", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "advisor.cli", "verify", *arguments, "--device", "cpu"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ},
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )

    def count():
        raw = json.loads(run_file.read_text())["verification"]
        return 0 if raw is None else len(raw["branches"])

    deadline = time.monotonic() + 60
    while count() < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    stopped = read(run_file)[0]["branches"]
    result = verify(*arguments, "--device", "cpu")
    assert result.exit_code in {0, 3}, result.output
    raw, _ = read(run_file)
    assert 2 <= len(stopped) < len(raw["branches"])
    assert raw["branches"][: len(stopped)] == stopped
    branches = list_branches(raw)
    assert len(branches) == len(set(branches))
    assert {(seed, size) for seed in range(2) for size in BATCHES} <= set(branches)


def test_a_rate_from_a_range_test_is_verified_from_its_own_pair(tmp_path):
    path = tmp_path / "run.json"
    advice = write_run(path, build_ranged_run())
    size, rate = advice.global_batch_size, advice.learning_rate.value
    assert advice.learning_rate.base_batch_size is None
    result = verify(path, EXAMPLE, *SHORT, *PATIENT, "--batches", str(size // 2))
    assert result.exit_code in {0, 3}, result.output
    raw, found = read(path)
    assert (raw["trunk_batch_size"], raw["trunk_learning_rate"]) == (size, rate)
    rates = {one["global_batch_size"]: one["learning_rate"] for one in raw["branches"]}
    assert rates == {size: rate, size // 2: pytest.approx(rate / 2)}  # no φ: in proportion
    assert found["recommended_batch_size"] == size


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parameter_count": 9611}, "another model"),
        ({"has_dataset": False}, "no training data"),
        ({"base_batch_size": None}, "no recommendation to verify"),
    ],
)
def test_a_run_that_does_not_go_with_the_file_is_a_usage_error(tmp_path, changes, said):
    path = tmp_path / "run.json"
    write_run(path, **changes)
    result = verify(path, EXAMPLE, *SHORT)
    assert result.exit_code == 2
    assert said in result.stderr
    assert read(path)[0] is None


def test_other_mistakes_end_with_the_exit_code_of_their_kind(run_file, tmp_path):
    assert verify(tmp_path / "none.json", EXAMPLE).exit_code == 2
    assert verify(run_file, tmp_path / "none.py").exit_code == 2
    assert verify(run_file, EXAMPLE, "--batches", "0,x").exit_code == 2
    assert verify(run_file, EXAMPLE, "--branch-samples", "100", "--device", "cpu").exit_code == 2
    assert verify(run_file, EXAMPLE, "--budget", "0.1s", "--device", "cpu").exit_code == 3
    result = verify(run_file, EXAMPLE, "--checkpoint", tmp_path / "none.pt")
    assert result.exit_code == 2
    assert "cannot read the checkpoint" in result.stderr
    result = verify(run_file, EXAMPLE, "--checkpoint", "a.pt", "--checkpoint", "b.pt")
    assert result.exit_code == 2
    assert "one checkpoint" in result.stderr
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('mine')\n")
    assert verify(run_file, broken).exit_code == 5
    document = json.loads(run_file.read_text())
    run_file.write_text(json.dumps({**document, "probes": []}))
    result = verify(run_file, EXAMPLE)
    assert result.exit_code == 2
    assert "no recommendation" in result.stderr
