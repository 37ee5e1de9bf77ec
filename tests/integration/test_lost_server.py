"""The process that forks the workers dies between two tasks."""

import os
import signal

import psutil
import pytest

from advisor.engine.runner import COLD_START_S, Runner
from advisor.engine.task import EnvironmentTask
from tests.integration.conftest import list_children


@pytest.mark.slow
def test_a_server_that_was_killed_is_started_again():
    task, before = EnvironmentTask(device="cpu"), list_children()
    with Runner(None) as runner:
        (first,) = runner.run(task, timeout_s=COLD_START_S)
        (server,) = (each for each in psutil.Process().children() if each.pid not in before)
        os.kill(server.pid, signal.SIGKILL)
        (second,) = runner.run(task, timeout_s=COLD_START_S)
    assert first.torch == second.torch
    assert list_children() <= before
