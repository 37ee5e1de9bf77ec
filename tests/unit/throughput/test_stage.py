import signal
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from advisor.device.data import DeviceFacts, Telemetry
from advisor.engine.ends import WorkerDeathError, WorkerTimeoutError
from advisor.engine.run import Run
from advisor.engine.spec import Limits, Spec
from advisor.memory.data import Probe
from advisor.throughput.stage import run_throughput
from advisor.training.data import WorkloadSpec
from tests.given import open_run
from tests.unit.doubles import Notes
from tests.unit.samples import FACTS, FIXED_S, PER_SAMPLE_S, make_probes, make_record


class Machine:
    """Times sizes as planned, or `slowdown` times as long, on a clock of its own.

    The kernel kills what times more than `most` samples; the user's code hangs after `sessions`.
    """

    def __init__(self, slowdown, most=10**9, sessions=10**9):
        self.slowdown, self.most, self.now_s, self.tasks = slowdown, most, 0.0, []
        self.sessions = sessions

    def monotonic(self):
        return self.now_s

    @contextmanager
    def watched(self, device, *, session):
        yield lambda: Telemetry(session=session)

    def run(self, task, *, timeout_s, on_result):
        self.tasks.append(task)
        if task.session >= self.sessions:
            raise WorkerTimeoutError("it stood at train.py:16", next_step="Look there.")
        for size in task.micro_batch_sizes:
            if size > self.most:
                text = "the worker was killed (SIGKILL)"
                raise WorkerDeathError(text, code=-signal.SIGKILL, next_step="Look.")
            step_s = self.slowdown * (FIXED_S + PER_SAMPLE_S * size)
            # A first round is always timed, the others while the task's budget lasts.
            round_s = 3.0 * max(step_s, task.block_s)
            rounds = max(1, min(task.rounds, int(task.budget_s / round_s)))
            self.now_s += rounds * round_s
            on_result(
                Probe(
                    stage="throughput",
                    session=task.session,
                    micro_batch_size=size,
                    outcome="fit",
                    step_times_s=(step_s * (1.0 + 0.001 * task.session),) * rounds,
                )
            )
        return ()


def time_sizes(monkeypatch, slowdown, budget_s=120.0, **more):
    machine, notes = Machine(slowdown, **more), Notes()
    clock = SimpleNamespace(monotonic=machine.monotonic)
    monkeypatch.setattr("advisor.engine.run.time", clock)
    monkeypatch.setattr("advisor.throughput.stage.time", clock)
    spec = Spec(workload=WorkloadSpec(target="model.py"), limits=Limits(budget_s=budget_s))
    run = open_run(spec, runner=machine, progress=notes, save=lambda record: None)
    probes = make_probes(sessions=1)
    if more.get("sessions") == 0:
        probes = [replace(probe, stage="memory", steps=3) for probe in probes]
    run.record = make_record(FACTS, probes=tuple(probes))
    device = DeviceFacts(kind="cpu", name="It", memory_bytes=1 << 30, available_bytes=1 << 30)
    monkeypatch.setattr(Run, "environment", property(lambda self: SimpleNamespace(device=device)))
    run_throughput(run)
    machine.failures = run.record.failures
    return machine, notes.notes


@pytest.mark.parametrize("slowdown", [1.0, 20.0, 60.0])
def test_the_stage_keeps_to_its_share_however_slow_the_machine_gets(monkeypatch, slowdown):
    machine, notes = time_sizes(monkeypatch, slowdown)
    sessions = {task.session for task in machine.tasks}
    assert machine.now_s <= 0.75 * 120.0
    if slowdown == 1.0:
        assert len(sessions) >= 3
        assert notes == []
    if slowdown == 60.0:
        assert notes == ["throughput: its share of the time ended before all sessions ran"]


def test_a_size_that_the_kernel_kills_is_left_out_and_the_others_are_timed(monkeypatch):
    machine, notes = time_sizes(monkeypatch, 1.0, most=300)
    assert len({task.session for task in machine.tasks}) >= 3
    assert all("the worker was killed" in note for note in notes)
    killed = [size for task in machine.tasks for size in task.micro_batch_sizes if size > 300]
    assert killed
    assert len(killed) == len(set(killed)) == len(notes)


def test_the_smallest_size_killed_is_no_answer(monkeypatch):
    with pytest.raises(WorkerDeathError):
        time_sizes(monkeypatch, 1.0, most=0)


def test_code_that_hangs_from_the_start_is_told_with_its_place(monkeypatch):
    machine, _ = time_sizes(monkeypatch, 1.0, sessions=0)
    (failure,) = machine.failures
    assert (failure.stage, failure.message) == ("throughput", "it stood at train.py:16")


def test_what_hangs_once_it_was_timed_leaves_the_figures(monkeypatch):
    machine, notes = time_sizes(monkeypatch, 1.0, sessions=1)
    assert machine.failures == ()
    assert notes == ["throughput: a session took longer than the time left"]


def test_a_budget_too_short_for_one_size_is_a_reason(monkeypatch):
    machine, _ = time_sizes(monkeypatch, 1.0, budget_s=1e-3)
    assert [each.message for each in machine.failures] == [
        "the budget is too short to time even one size"
    ]
