"""The range test as people run it: real training, real interrupts, and its place in a probe."""

import json
import math
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest

from advisor.advice.plan import ADVICE
from advisor.rate.data import TRIALS
from advisor.rate.range_data import LR_RANGES
from tests.integration.asked import ask
from tests.integration.probe_command import MARK, ROOT, end_survivors, heed_interrupts

pytestmark = pytest.mark.slow


def test_the_rate_found_for_the_digits_trains_and_is_that_of_the_same_seed(run_command, tmp_path):
    model, values = ROOT / "examples/digits.py", []
    for name in ("one.json", "two.json"):
        options = ("--device", "cpu", "--steps", "120", "--json", tmp_path / name)
        found = run_command("lr-range", model, *options)
        assert found.exit_code == 0, found.stderr
        assert found.stdout.startswith("Train at learning rate")
        document = json.loads((tmp_path / name).read_text())
        assert document["complete"] is True
        values.append(document["derived"]["learning_rate"]["value"])
    assert values[0] == values[1]
    assert 0.2 <= values[0] <= 1.2  # these train; 2 does not


@pytest.mark.usefixtures("shared_servers")
def test_a_probe_without_make_optimizer_advises_a_rate_that_it_ran(tmp_path):
    model = tmp_path / "model.py"
    text = (ROOT / "examples/digits.py").read_text()
    model.write_text(text.partition("def make_optimizer")[0].replace("BASE_BATCH_SIZE", "OTHER"))
    names = ("memory", "throughput", "trial")
    found = ask(*names, target=model, max_micro_batch_size=64, budget_s=18.0)
    advice = found.of(ADVICE)
    rate, size = advice.learning_rate, advice.global_batch_size
    ranged = found.record.all(LR_RANGES)[0].global_batch_size
    assert rate.rule.startswith(f"range test at batch {ranged}")
    assert rate.base_value == 1e-3
    assert rate.base_batch_size is None
    assert 1e-3 < rate.value < 0.2
    run = [
        trial
        for trial in found.record.all(TRIALS)
        if (trial.global_batch_size, trial.learning_rate) == (size, rate.value)
    ]
    assert len({trial.seed for trial in run}) >= 3
    assert all(math.isfinite(trial.evaluations[-1].loss) for trial in run)


def test_an_interrupt_keeps_the_curves_and_leaves_no_process(tmp_path):
    mark, path = uuid.uuid4().hex, tmp_path / "range.json"
    command = [sys.executable, "-m", "advisor.cli", "lr-range", ROOT / "examples/digits.py"]
    process = subprocess.Popen(
        [*command, "--device", "cpu", "--json", path, "--seeds", "20", "--quiet"],
        cwd=tmp_path,
        env={**os.environ, MARK: mark, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and json.loads(path.read_text())["lr_ranges"]:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert end_survivors(mark) == ()
    document = json.loads(path.read_text())
    assert document["complete"] is False
    assert document["stopped_because"] == "interrupted"
    assert document["lr_ranges"]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("good/make_batch_only", 2, "has no make_dataset"),
        ("good/make_step", 2, "has make_step"),
        ("bad/shape_error", 5, "shape_error.py"),
        ("bad/sigkill_self", 5, "sigkill_self.py"),
    ],
)
def test_a_file_that_cannot_be_tested_is_told_with_its_exit_code(name, code, words, run_command):
    result = run_command("lr-range", f"tests/workloads/{name}.py", "--quiet", "--device", "cpu")
    assert result.exit_code == code, result.stderr
    assert words in result.stderr
    assert result.stdout == ""
