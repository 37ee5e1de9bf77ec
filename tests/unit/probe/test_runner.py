import os
import queue
import threading
import time

import msgspec
import pytest

from advisor.engine import runner as runner_module
from advisor.engine.connection import Connection
from advisor.engine.ends import (
    LostServerError,
    WorkerDeathError,
    WorkerTimeoutError,
    explain_death,
    explain_timeout,
    find_location,
)
from advisor.engine.runner import Runner
from advisor.engine.starters import refuse_late
from advisor.engine.task import EnvironmentTask
from advisor.engine.wire import Done, Exited
from advisor.memory.data import MemoryTask
from advisor.training.data import Script, WorkloadSpec, parse_target

TASK = EnvironmentTask()


class FakeConnection:
    """Messages that come after given delays."""

    def __init__(self, messages):
        self.messages = queue.SimpleQueue()
        self.asked = False
        for delay_s, message in messages:
            threading.Timer(delay_s, self.messages.put, [message]).start()

    def ask_where_it_stands(self):
        self.asked = True


class FakeStarter:
    def __init__(self, *messages):
        self.connection = FakeConnection(messages)

    def start(self, order):
        return self.connection

    def clean_up(self):
        pass

    def close(self):
        pass


def run(*messages, timeout_s=5.0):
    with Runner(None) as runner:
        runner._starter = FakeStarter(*messages)
        return runner.run(TASK, timeout_s=timeout_s)


def stream(*lines, code=None):
    """What a connection makes of these lines, by whose end nobody else has told the exit."""
    read, write = os.pipe()
    with os.fdopen(write, "wb") as file:
        file.writelines(lines)
    connection = Connection(0, os.fdopen(read, "rb"), lambda: code)
    return connection.messages


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(runner_module, "_STAND_S", 0.0)


def test_a_worker_that_ends_without_a_word_tells_its_code():
    with pytest.raises(WorkerDeathError, match="SIGSEGV") as caught:
        run((0.3, Exited(code=-11)))
    assert caught.value.code == -11


def test_a_worker_that_dies_at_a_size_names_it(tmp_path):
    (tmp_path / "crash.txt").touch()
    task = MemoryTask(
        workload=WorkloadSpec(target="train.py"), micro_batch_size=4000, capacity_bytes=1
    )
    death = explain_death(task, tmp_path / "crash.txt", -11)
    assert death.message.endswith("(SIGSEGV), with batches of 4,000")


def test_code_that_torch_compiled_is_not_the_users(tmp_path):
    crash = tmp_path / "crash.txt"
    crash.write_text(
        'File "/tmp/torchinductor_me/ab/cab.py", line 3 in <module>\n'
        'File "/home/me/model.py", line 7 in forward\n'
    )
    assert find_location(crash) == "/home/me/model.py:7 in forward"


def test_the_model_file_that_ranks_train_is_named_and_not_what_trains_it(tmp_path):
    (tmp_path / "crash.txt").touch()
    script = Script(arguments=(), ranks=2, is_module=True, model_file="model.py")
    workload = WorkloadSpec(target="advisor.training.ranked", script=script)
    task = MemoryTask(workload=workload, micro_batch_size=4, capacity_bytes=1)
    assert explain_timeout(task, tmp_path / "crash.txt", 9.0).message.startswith("model.py did not")


def test_the_time_for_importing_is_told_whole_where_packages_took_it(monkeypatch):
    def start(names, deadline):
        raise (
            LostServerError("late") if names else refuse_late("torch", deadline - time.monotonic())
        )

    monkeypatch.delenv("BSADVISOR_START_METHOD", raising=False)
    monkeypatch.setattr(runner_module, "Forkserver", start)
    with (
        Runner(parse_target(__file__)) as runner,
        pytest.raises(
            WorkerTimeoutError, match=r"torch and what the file imports .* than \d+\.\d s"
        ),
    ):
        runner.run(TASK, timeout_s=20.0)


def test_an_exit_that_nobody_saw_has_no_code():
    with pytest.raises(WorkerDeathError, match="without a word") as caught:
        run((0.0, Exited(code=None)))
    assert caught.value.code is None


def test_lines_before_the_exit_count():
    assert run((0.0, Done()), (0.0, Exited(code=0))) == ()


def test_an_exit_that_a_server_tells_comes_before_one_by_the_end_of_the_lines():
    """Also after a line that the worker's end has cut off."""
    told = [b'{"type": "do', b"\n" + msgspec.json.encode(Exited(code=3)) + b"\n"]
    messages = stream(*told)
    assert [messages.get(timeout=9.0).code for _ in range(2)] == [3, None]
    assert stream(code=7).get(timeout=9.0).code == 7


def test_silence_is_a_timeout():
    with pytest.raises(WorkerTimeoutError):
        run(timeout_s=0.1)


def test_no_time_left_is_no_fault_of_the_file():
    with pytest.raises(WorkerTimeoutError, match="left of the budget") as caught:
        run(timeout_s=0.1)
    assert caught.value.exit_code == 3
    assert "--budget" in caught.value.next_step
