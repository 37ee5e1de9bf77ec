import contextlib

import pytest

from advisor.device.data import Telemetry
from advisor.engine import command
from advisor.engine.ends import WorkerTimeoutError
from advisor.engine.spec import Limits, Spec
from advisor.engine.task import EnvironmentTask, InspectTask
from advisor.errors import InconclusiveError, WorkloadError
from advisor.memory.data import PROBES
from advisor.noise_floor.data import MICRO_BATCH_SIZE
from advisor.noise_floor.question import KIND
from advisor.throughput.data import TELEMETRY, ThroughputTask
from advisor.training.data import WorkloadSpec
from tests.given import open_run
from tests.unit.doubles import Notes
from tests.unit.noise_floor.timed_sessions import session
from tests.unit.report.sample_run import build_environment
from tests.unit.samples import FACTS


class FakeRunner:
    """Times nothing; `error` ends the session after `sessions` of them."""

    def __init__(self, sessions, error):
        self.sessions, self.error = sessions, error
        self.tasks, self.timeouts_s, self.saved = [], [], []

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        return None

    def run(self, task, *, timeout_s, on_result=None):
        if isinstance(task, EnvironmentTask):
            return (build_environment(),)
        self.timeouts_s.append(timeout_s)
        if isinstance(task, InspectTask):
            return (FACTS,)
        assert isinstance(task, ThroughputTask)
        if len(self.tasks) == self.sessions:
            raise self.error
        self.tasks.append(task)
        on_result(session(task.session, 0.1))

    @contextlib.contextmanager
    def watched(self, device, *, session):
        yield lambda: Telemetry(session=session)


def compare(monkeypatch, tmp_path, *, sessions=99, error=None, budget_s=100.0, **workload):
    runner, notes = FakeRunner(sessions, error), Notes()
    monkeypatch.setattr(command, "Runner", lambda *_, **__: runner)
    (tmp_path / "model.py").touch()
    spec = Spec(
        workload=WorkloadSpec(target=str(tmp_path / "model.py"), **workload),
        limits=Limits(budget_s=budget_s),
    )
    runner.notes = notes.notes
    with contextlib.suppress(*([type(error)] if error is not None else [])):
        command.execute(
            KIND,
            spec,
            argv=("x",),
            progress=notes,
            save=lambda found: runner.saved.append(found.record),
            asked=((MICRO_BATCH_SIZE, 16),),
        )
    return runner


def test_the_users_configuration_is_timed_and_stored(monkeypatch, tmp_path):
    changes = {"settings": {"width": "8"}, "precision": "bf16", "compile": True, "seed": 7}
    runner = compare(monkeypatch, tmp_path, **changes)
    assert len(runner.tasks) == 20
    for name, value in changes.items():
        assert all(getattr(task.workload, name) == value for task in runner.tasks)
        assert getattr(runner.saved[-1].command, name) == value
    assert {task.micro_batch_sizes for task in runner.tasks} == {(16,)}
    assert runner.saved[-1].get(MICRO_BATCH_SIZE) == 16
    assert runner.saved[-1].complete


def test_each_session_is_saved_as_it_ends(monkeypatch, tmp_path):
    saved = compare(monkeypatch, tmp_path).saved
    for key in (PROBES, TELEMETRY):
        counts = [len(record.all(key)) for record in saved]
        assert counts == sorted(counts)
        assert set(counts) == set(range(21))
    assert not any(record.complete for record in saved[:-1])


@pytest.mark.parametrize(
    ("error", "words"),
    [(WorkloadError("model.py:3: it broke"), "it broke"), (KeyboardInterrupt(), "interrupted")],
)
def test_what_ends_it_is_saved_with_the_sessions_so_far(monkeypatch, tmp_path, error, words):
    last = compare(monkeypatch, tmp_path, sessions=2, error=error).saved[-1]
    assert not last.complete
    assert words in last.stopped_because
    assert len(last.all(PROBES)) == 2


def test_a_session_gets_the_time_left_and_never_less_than_it_needs(monkeypatch, tmp_path):
    timeouts_s = compare(monkeypatch, tmp_path, budget_s=50.0).timeouts_s
    assert max(timeouts_s) <= 50.0
    assert timeouts_s == sorted(timeouts_s, reverse=True)
    with pytest.raises(InconclusiveError, match="fewer than 4"):
        compare(monkeypatch, tmp_path, budget_s=0.0)
    spec = Spec(workload=WorkloadSpec(target="m.py"), limits=Limits(budget_s=0.0))
    assert open_run(spec, runner=None, progress=None, save=print).left_s <= 0.1


def test_a_last_session_that_takes_too_long_does_not_count(monkeypatch, tmp_path):
    late = WorkerTimeoutError("model.py did not finish")
    runner = compare(monkeypatch, tmp_path, sessions=5, error=late)
    assert runner.saved[-1].complete
    assert len(runner.saved[-1].all(PROBES)) == 5
    assert "does not count" in runner.notes[0]


def test_a_first_session_that_never_ends_is_told(monkeypatch, tmp_path):
    late = WorkerTimeoutError("model.py did not finish; it stood at line 3")
    runner = compare(monkeypatch, tmp_path, sessions=0, error=late)
    assert "line 3" in runner.saved[-1].stopped_because


def test_fewer_than_four_sessions_are_inconclusive(monkeypatch, tmp_path):
    late = WorkerTimeoutError("model.py did not finish")
    with pytest.raises(InconclusiveError, match="fewer than 4"):
        compare(monkeypatch, tmp_path, sessions=3, error=late)
