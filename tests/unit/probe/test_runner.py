import threading
import time

import msgspec
import pytest

from advisor.engine import connection as stream_module
from advisor.engine import runner as runner_module
from advisor.engine.ends import WorkerDeathError, WorkerTimeoutError
from advisor.engine.opening import EnvironmentTask
from advisor.engine.runner import Runner
from advisor.engine.wire import Done, Message

TASK = EnvironmentTask()


class FakeConnection:
    """Events that come after given delays."""

    def __init__(self, events):
        import queue

        self.events = queue.SimpleQueue()
        self.asked = False
        for delay_s, event in events:
            threading.Timer(delay_s, self.events.put, [event]).start()

    def ask_where_it_stands(self):
        self.asked = True


class FakeStarter:
    def __init__(self, *events):
        self.connection = FakeConnection(events)

    def start(self, order):
        return self.connection

    def clean_up(self):
        pass

    def close(self):
        pass


def run(*events, timeout_s=5.0):
    with Runner(None) as runner:
        runner._starter = FakeStarter(*events)
        return runner.run(TASK, timeout_s=timeout_s)


def encode(message: Message) -> bytes:
    return msgspec.json.encode(message)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(stream_module, "DRAIN_S", 0.1)
    monkeypatch.setattr(stream_module, "REAP_S", 0.6)
    monkeypatch.setattr(runner_module, "_STAND_S", 0.0)


def test_a_worker_reaped_long_after_its_last_message_still_tells_its_code():
    with pytest.raises(WorkerDeathError, match="SIGSEGV") as caught:
        run((0.0, None), (0.3, -11))
    assert caught.value.code == -11


def test_an_exit_that_nobody_saw_has_no_code():
    with pytest.raises(WorkerDeathError, match="without a word") as caught:
        run((0.0, None))
    assert caught.value.code is None


def test_lines_that_come_after_the_exit_count(monkeypatch):
    monkeypatch.setattr(stream_module, "DRAIN_S", 60.0)  # it ends with the line, however late
    assert run((0.0, 0), (0.05, encode(Done()))) == ()


def test_a_pipe_that_orphans_hold_open_does_not_hold_the_run():
    with pytest.raises(WorkerDeathError, match="exit status 3"):
        run((0.0, 3))


def test_nothing_is_awaited_once_both_ends_are_known(monkeypatch):
    monkeypatch.setattr(stream_module, "REAP_S", 60.0)
    start = time.monotonic()
    with pytest.raises(WorkerDeathError):
        run((0.0, None), (0.0, 0), timeout_s=60.0)
    assert time.monotonic() - start < 30.0


def test_silence_is_a_timeout():
    with pytest.raises(WorkerTimeoutError):
        run(timeout_s=0.1)


def test_no_time_left_is_no_fault_of_the_file():
    with pytest.raises(WorkerTimeoutError, match="left of the budget") as caught:
        run(timeout_s=0.1)
    assert caught.value.exit_code == 3
    assert "--budget" in caught.value.next_step
