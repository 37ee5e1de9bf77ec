"""Which rank hangs, of what it did and of where it stands."""

import subprocess
import sys

import pytest

from advisor.engine.ends import PACKAGE
from advisor.engine.wire import Failure
from advisor.engine.worker.hanging import (
    HangWatch,
    Idleness,
    ProgressFile,
    waits_for_others,
)
from advisor.engine.worker.said import RankStore

_SITE = "/venv/lib/python3.12/site-packages"


def open_store(folder):
    return RankStore(folder, "127.0.0.1", 0, is_master=True)


def see(idle, now_s, *, steps=None, seconds=0.0, moved=0, is_running=False):
    steps = idle.steps if steps is None else steps
    return idle.see(steps, (seconds, moved), now_s, is_running=is_running)


def test_a_rank_is_idle_for_longer_than_is_like_it():
    """Its steps took 2 s, so it may take 20."""
    idle = Idleness(1, 0.0)
    for step in range(1, 4):
        assert not see(idle, 2.0 * step, steps=step)
    assert not see(idle, 25.9, steps=3)
    assert see(idle, 26.1, steps=3)


def test_short_steps_have_a_floor():
    idle = Idleness(1, 0.0)
    for step in range(1, 100):
        see(idle, 0.01 * step, steps=step)
    assert not see(idle, 5.5, steps=99)
    assert see(idle, 6.1, steps=99)


def test_telling_where_it_stands_is_no_work():
    """Else ranks that wait for each other would seem to in turns, and never all at once."""
    idle = Idleness(1, 0.0)
    for step in range(1, 4):
        see(idle, 0.1 * step, steps=step)
    assert see(idle, 6.0)
    idle.work = (0.5, 900)
    assert see(idle, 6.3, seconds=0.5, moved=900)
    assert not see(idle, 6.6, seconds=0.5, moved=901)


@pytest.mark.parametrize("steps", [0, 1])
def test_before_two_steps_nothing_is_known(steps):
    idle = Idleness(1, 0.0)
    assert not see(idle, 1.0, steps=steps)
    assert not see(idle, 1000.0, steps=steps)


@pytest.mark.parametrize(
    "work",
    [
        lambda s: {"seconds": 0.1 * s},  # an evaluation, here or in a process of the loader
        lambda s: {"moved": 4096 * int(s)},  # a checkpoint
        lambda s: {"is_running": True},  # on a machine that is too busy
    ],
)
def test_what_works_between_steps_does_not_hang(work):
    idle = Idleness(1, 0.0)
    for step in range(1, 4):
        see(idle, 0.1 * step, steps=step)
    for second in range(1, 120):
        assert not see(idle, float(second), steps=3, **work(float(second)))


def test_a_process_that_hardly_works_is_idle():
    """As one whose threads look around now and then."""
    idle = Idleness(1, 0.0)
    for step in range(1, 4):
        see(idle, 0.1 * step, steps=step)
    assert [see(idle, float(s), steps=3, seconds=0.01 * s) for s in range(1, 8)][-1]


@pytest.mark.parametrize(
    ("paths", "waits"),
    [
        ([f"{_SITE}/torch/distributed/distributed_c10d.py", "/home/me/train.py"], True),
        ([f"{_SITE}/torch/_ops.py", f"{_SITE}/torch/distributed/_functional_collectives.py"], True),
        ([f"{_SITE}/torch/autograd/graph.py", f"{_SITE}/torch/_tensor.py"], True),
        ([f"{PACKAGE}training/script/word.py", "/home/me/train.py"], True),
        (["/home/me/train.py", f"{_SITE}/torch/distributed/elastic/api.py"], False),
        (["/home/me/model.py", f"{_SITE}/torch/nn/parallel/distributed.py"], False),
        ([f"{_SITE}/models/bert.py", f"{_SITE}/torch/nn/parallel/distributed.py"], False),
        (["/usr/lib/python3.12/queue.py", f"{_SITE}/torch/utils/data/dataloader.py"], False),
        ([], False),
    ],
)
def test_where_a_rank_stands_tells_whether_it_waits_for_others(paths, waits):
    lines = [f'  File "{path}", line 7 in run' for path in paths]
    assert waits_for_others("\n".join(["Stack (most recent call first):", *lines])) == waits


def test_a_rank_that_is_writing_down_that_it_began_is_looked_at_later(tmp_path):
    said = open_store(tmp_path)
    said.progress(0).write_bytes(b"\0\0")
    watch = HangWatch("train.py", said, [0])
    assert not watch._look(0)
    ProgressFile(said.progress(0))
    assert not watch._look(0)


def test_a_rank_that_has_ended_by_itself_is_no_failure_of_the_watch(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    said = open_store(tmp_path)
    watch = HangWatch("train.py", said, [0])
    watch._end(0, child.pid, "it did nothing")
    (failure,) = said.hear(0)
    assert isinstance(failure, Failure)
    assert "hangs: it did nothing" in failure.message
    assert said.list_failed() == [0]
