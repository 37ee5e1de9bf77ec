import os
import subprocess
import sys

import pytest

from advisor.engine import starters
from advisor.engine.starters import Spawner

ENDED = [sys.executable, "-c", ""]


def test_a_reaped_workers_number_is_not_killed(monkeypatch):
    killed = []
    monkeypatch.setattr(starters, "kill_tree", killed.append)
    starter = Spawner()
    starter._process = subprocess.Popen(ENDED)
    starter._process.wait()
    starter.clean_up()
    starter.clean_up()
    assert killed == []


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_number_that_lives_again_is_no_session_of_ours(monkeypatch):
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("killed another's group"))
    starters._kill_orphans(os.getpid())


def test_a_worker_that_died_before_its_order_is_told_by_its_exit(monkeypatch):
    monkeypatch.setattr(
        starters, "python_command", lambda _: [sys.executable, "-c", "raise SystemExit(7)"]
    )
    starter = Spawner()
    connection = starter.start(b"x" * 10_000_000)
    assert connection.messages.get(timeout=30).code == 7
    connection.ask_where_it_stands()
    starter.close()
