"""Workers as new interpreters, as on systems without a fork that holds."""

import time

import psutil
import pytest

from advisor.engine.ends import WorkerTimeoutError
from advisor.engine.runner import Runner
from advisor.engine.task import InspectTask
from advisor.training.data import WorkloadSpec, parse_target
from tests.integration.probe_command import ROOT

pytestmark = pytest.mark.slow

#: Far more than an inspection takes.
PATIENCE_S = 120.0

HANG = """
import pathlib, subprocess, time

def make_model():
    child = subprocess.Popen(["sleep", "600"])
    pathlib.Path(__file__).with_suffix(".pid").write_text(str(child.pid))
    time.sleep(600)

def make_batch(batch_size):
    return None
"""


@pytest.fixture(autouse=True)
def spawning(monkeypatch):
    monkeypatch.setenv("BSADVISOR_START_METHOD", "spawn")


def make_task(path):
    return InspectTask(workload=WorkloadSpec(target=str(path), device="cpu"))


def test_a_spawned_worker_inspects_a_model_file():
    path = ROOT / "tests/workloads/good/make_batch_only.py"
    with Runner(parse_target(str(path))) as runner:
        (facts,) = runner.run(make_task(path), timeout_s=PATIENCE_S)
    assert not facts.has_dataset


def test_a_spawned_worker_that_hangs_is_killed_with_its_children(tmp_path):
    path = tmp_path / "hang.py"
    path.write_text(HANG)
    with Runner(parse_target(str(path))) as runner, pytest.raises(WorkerTimeoutError, match="hang"):
        runner.run(make_task(path), timeout_s=10.0)
    child = int(path.with_suffix(".pid").read_text())
    deadline = time.monotonic() + 5.0
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
