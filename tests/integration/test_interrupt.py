"""Ctrl-C, and the death of the parent, leave nothing behind but what was measured."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.integration.probe_command import MARK, end_survivors

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "digits.py"
#: Ends a wait that would never end.
PATIENCE_S = 60


@pytest.fixture
def started(tmp_path):
    """Yield a probe that has measured something, the file it saves to, and its mark."""
    document = tmp_path / "run.json"
    mark = uuid.uuid4().hex
    command = ["probe", str(EXAMPLE), "--device", "cpu", "--json", str(document)]
    process = subprocess.Popen(
        [sys.executable, "-m", "advisor.cli", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, MARK: mark},
        start_new_session=True,
    )
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if document.exists() and json.loads(document.read_text())["probes"]:
            break
        time.sleep(0.05)
    yield process, document, mark
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


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's parent-death signal")
def test_a_killed_parent_leaves_no_process(started):
    process, _, mark = started
    process.kill()
    process.wait()
    assert end_survivors(mark) == ()
