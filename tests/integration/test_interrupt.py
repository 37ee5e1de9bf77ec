"""Ctrl-C, and the death of the parent, leave nothing behind but what was measured."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from tests.integration.probe_command import MARK, end_survivors, heed_interrupts

pytestmark = pytest.mark.slow

MODEL = Path(__file__).parent.parent / "workloads" / "good" / "dropout.py"
#: Ends a wait that would never end.
PATIENCE_S = 60


#: Starts a process in a session of its own, which only its ancestors can find, and waits.
FAMILY = """
import pathlib, subprocess, time

def make_model():
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    pathlib.Path(__file__).with_suffix(".started").touch()
    time.sleep(600)

def make_batch(batch_size):
    return None
"""


def start_probe(target, *options):
    """Return a running probe and its mark."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "advisor.cli", "probe", str(target), "--device", "cpu", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, MARK: mark},
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    return process, mark


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.fixture
def started(tmp_path):
    """Yield a probe that has measured something, the file it saves to, and its mark."""
    document = tmp_path / "run.json"
    process, mark = start_probe(MODEL, "--json", str(document))
    wait_until(lambda: document.exists() and json.loads(document.read_text())["probes"])
    yield process, document, mark
    process.kill()
    process.wait()


@pytest.fixture
def family(tmp_path):
    """Yield a probe whose worker has started a process and waits, and its mark."""
    target = tmp_path / "family.py"
    target.write_text(FAMILY)
    process, mark = start_probe(target)
    wait_until(target.with_suffix(".started").exists)
    yield process, mark
    process.kill()
    process.wait()


def test_ctrl_c_saves_what_was_measured_and_leaves_no_process(started):
    process, document, mark = started
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    saved = json.loads(document.read_text())
    assert saved["complete"] is False
    assert "interrupted" in saved["stopped_because"]
    assert saved["probes"]
    assert end_survivors(mark) == ()


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's reaper of orphans")
def test_a_killed_parent_leaves_neither_a_worker_nor_what_it_started(family):
    process, mark = family
    (server,) = psutil.Process(process.pid).children()
    server.suspend()  # it must live to see its parent's end, however late it looks
    process.kill()
    process.wait()
    server.resume()
    assert end_survivors(mark) == ()
