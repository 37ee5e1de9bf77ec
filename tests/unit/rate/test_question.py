import msgspec
import pytest

from advisor.engine import command
from advisor.engine.record import Conclusions
from advisor.engine.spec import Spec
from advisor.engine.task import EnvironmentTask, InspectTask
from advisor.errors import WorkloadError
from advisor.rate.conclude import LEARNING_RATE
from advisor.rate.range_data import RANGE, RangePlan
from advisor.rate.range_stage import KIND
from advisor.training.data import WorkloadSpec
from tests.unit.doubles import Notes
from tests.unit.rate.range_samples import RangeRunner
from tests.unit.report.sample_run import build_environment
from tests.unit.samples import FACTS


class Command(RangeRunner):
    """Also answers what comes before the range test."""

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        return None

    def run(self, task, *, timeout_s, on_result=None):
        if isinstance(task, EnvironmentTask):
            return (build_environment(),)
        if isinstance(task, InspectTask):
            return (FACTS,)
        return super().run(task, timeout_s=timeout_s, on_result=on_result)


def run_command(monkeypatch, tmp_path, **behaviour):
    runner, saved = Command(**behaviour), []
    monkeypatch.setattr(command, "Runner", lambda *_, **__: runner)
    (tmp_path / "model.py").touch()
    workload = WorkloadSpec(target=str(tmp_path / "model.py"), seed=7)
    asked = RangePlan(global_batch_size=64, micro_batch_size=16, low_rate=1e-5, seeds=4)
    runner.saved = saved
    command.execute(
        KIND,
        Spec(workload=workload),
        argv=("x",),
        progress=Notes(),
        save=lambda found: saved.append(found.record),
        asked=((RANGE, asked),),
    )
    return runner


def test_the_command_runs_what_was_asked_and_saves_after_each_result(monkeypatch, tmp_path):
    runner = run_command(monkeypatch, tmp_path)
    task, trial = runner.tasks[:2]
    assert (task.micro_batch_size, task.gradient_accumulation_steps) == (16, 4)
    assert (task.low_rate, task.high_rate) == (1e-5, 1e3)
    assert task.seeds == (7, 8, 9, 10)
    assert not set(task.seeds) & set(trial.seeds)
    assert [record.complete for record in runner.saved[-2:]] == [False, True]
    counts = [len(record.trials) for record in runner.saved]
    assert counts == sorted(counts)
    assert set(counts) >= {0, 1, 2, 3}
    assert Conclusions(runner.saved[-1]).of(LEARNING_RATE).value == trial.learning_rate


@pytest.mark.parametrize(
    ("error", "words"),
    [(WorkloadError("model.py:3: it broke"), "it broke"), (KeyboardInterrupt(), "interrupted")],
)
def test_what_ends_the_command_early_stands_in_the_record(monkeypatch, tmp_path, error, words):
    saved = []
    monkeypatch.setattr(command, "Runner", lambda *_, **__: Command(error=error))
    (tmp_path / "model.py").touch()
    spec = Spec(workload=WorkloadSpec(target=str(tmp_path / "model.py")))
    with pytest.raises(type(error)):
        command.execute(
            KIND, spec, argv=(), progress=Notes(), save=lambda found: saved.append(found.record)
        )
    assert saved[-1].complete is False
    assert words in saved[-1].stopped_because
    assert msgspec.json.encode(saved[-1])
