"""The whole run on a CUDA device; skipped with its reason where there is none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from advisor.memory.guided import GUIDED_LIMITS

ROOT = Path(__file__).resolve().parents[2]
LIMIT_BYTES = 2 << 30

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def probe(example, *options):
    command = [sys.executable, "-m", "advisor.cli", "probe", str(ROOT / "examples" / example)]
    done = subprocess.run(
        [*command, "--device", "cuda", "--json", "-", "--quiet", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_digits_gets_a_full_recommendation():
    document = probe("digits.py")
    assert document["environment"]["device"]["kind"] == "cuda"
    advice = document["derived"]["recommendation"]
    assert advice["learning_rate"]["value"] > 0
    assert document["derived"]["noise"]["status"] in {"estimated", "lower_bound"}


def test_the_memory_limit_is_enforced_and_the_answer_verified():
    document = probe("convnet.py", "--memory-limit", str(LIMIT_BYTES), "--budget", "300s")
    memory = document["derived"]["memory"]
    assert memory["limited_by"] == "memory"
    assert memory["verified"]
    assert memory["probes"] <= 12
    assert memory["ooms"] <= GUIDED_LIMITS.ooms
    fits = [each for each in document["probes"] if each["outcome"] == "fit"]
    assert all((each["peak_allocated_bytes"] or 0) <= LIMIT_BYTES for each in fits)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "tf32"])
def test_every_precision_runs(precision):
    document = probe("char_lm.py", "--precision", precision, "--max-batch", "32")
    assert document["command"]["precision"] == precision
    assert document["derived"]["recommendation"] is not None


def test_device_events_agree_with_the_wall_clock():
    document = probe("convnet.py", "--max-batch", "256")
    timed = [each for each in document["probes"] if each["stage"] == "throughput"]
    assert timed
    for each in timed:
        for wall_s, device_s in zip(each["step_times_s"], each["device_step_times_s"], strict=True):
            assert device_s <= 1.1 * wall_s
