import msgspec
import pytest

from advisor.engine.budget import TIME_PLAN
from advisor.engine.ends import WorkerDeathError, WorkerTimeoutError
from advisor.engine.record import Conclusions
from advisor.engine.spec import Limits, Spec
from advisor.errors import UsageError, WorkloadError
from advisor.loader.data import LoaderTask, LoopTask
from advisor.loader.question import check_epoch, run_loader
from advisor.loader.tell import tell_loader
from advisor.training.data import WorkloadSpec
from tests.given import open_run
from tests.unit.doubles import Notes, StreamingRunner
from tests.unit.loader.timings import make_loop_timing
from tests.unit.loader.timings import run as time_workers
from tests.unit.samples import FACTS, derive, make_probes, make_record

LOOP = make_loop_timing((32, 128), [(0.1, 0.1), (0.3, 0.3)])


class LoaderRunner(StreamingRunner):
    """Times the loop at once, then the loader as it is told."""

    def run(self, task, *, timeout_s, on_result=None):
        if isinstance(task, LoopTask):
            self.loops = [*self.loops, task]
            on_result(self.loop)
            return (self.loop,)
        return super().run(task, timeout_s=timeout_s, on_result=on_result)


def run_with(
    timings=(),
    error=None,
    *,
    facts=FACTS,
    probes=None,
    budget_s=1000.0,
    loop=LOOP,
    planned_step_s=None,
    **more,
):
    runner, notes = LoaderRunner(timings, error), Notes()
    runner.loops, runner.loop = [], loop
    limits = Limits(budget_s=budget_s, **more)
    spec = Spec(workload=WorkloadSpec(target="model.py"), limits=limits)
    run = open_run(spec, runner=runner, progress=notes, save=lambda record: None)
    run.record = make_record(facts, probes=make_probes() if probes is None else probes)
    command = msgspec.structs.replace(run.record.command, limits=limits)
    run.record = msgspec.structs.replace(run.record, command=command)
    if planned_step_s is not None:
        run.plan(planned_step_s)
    run_loader(run)
    return run, runner, notes.notes


def test_the_loader_is_timed_at_the_base_batch_in_a_small_part_of_the_time():
    timings = time_workers(load_s=0.25, step_s=0.1)
    run, runner, notes = run_with(timings)
    (task,) = runner.tasks
    assert isinstance(task, LoaderTask)
    assert task.micro_batch_size == FACTS.base_batch_size
    assert task.budget_s <= 150.0
    assert runner.timeouts_s[0] <= 500.0
    assert run.record.loader_timings == tuple(timings)
    assert derive(run.record).loader.workers_needed == 3
    assert notes == []


@pytest.mark.parametrize("no_loader", [False, True])
def test_the_loop_is_timed_from_the_base_batch_on(no_loader):
    run, runner, _ = run_with(no_loader=no_loader)
    (task,) = runner.loops
    assert task.micro_batch_sizes == (32, 128, 512, 16)  # steps were timed from 16 on
    assert task.is_in_memory == no_loader
    assert task.budget_s <= 300.0
    assert run.record.loop_timings == (LOOP,)


@pytest.mark.parametrize(("fetch_s", "is_long"), [(0.001, False), (0.5, True)])
def test_where_fetching_a_batch_takes_long_the_plan_is_made_again(fetch_s, is_long):
    loop = msgspec.structs.replace(LOOP, fetch_s=fetch_s)
    run, _, _ = run_with(loop=loop, budget_s=None, planned_step_s=0.1)
    plan = run.record.get(TIME_PLAN)
    assert plan.step_s == (0.1 + fetch_s if is_long else 0.1)
    assert "trial" in plan.needs_s
    assert ("noise" in plan.needs_s) != is_long


def test_without_data_there_is_no_loader():
    facts = msgspec.structs.replace(FACTS, has_dataset=False)
    run, runner, notes = run_with(facts=facts)
    assert runner.tasks == runner.loops == notes == []
    assert derive(run.record).loader is None


def test_batches_in_memory_have_no_loader_and_the_report_says_so():
    run, runner, notes = run_with(no_loader=True)
    assert runner.tasks == notes == []
    (row,) = tell_loader(Conclusions(run.record)).rows
    assert "--no-loader" in row.text


def test_the_cost_of_an_epoch_needs_its_length():
    facts = msgspec.structs.replace(FACTS, dataset_size=None)
    check_epoch(run_with(epoch_overhead_s=3.0)[0])
    check_epoch(run_with(facts=facts)[0])
    with pytest.raises(UsageError, match="--epoch-overhead"):
        check_epoch(run_with(facts=facts, epoch_overhead_s=3.0)[0])


@pytest.mark.parametrize("reason", ["spent", "no batch"])
def test_a_stage_left_out_is_told(reason):
    _, runner, notes = run_with(
        budget_s=0.0 if reason == "spent" else 1000.0, probes=() if reason == "no batch" else None
    )
    assert runner.tasks == []
    assert notes == ["loader: no time left to measure it"]


@pytest.mark.parametrize(
    "error",
    [
        WorkerTimeoutError("model.py did not finish within 5 s"),
        WorkerDeathError("model.py was killed", code=-9, next_step=""),
    ],
)
def test_what_was_timed_before_the_worker_ended_is_kept(error):
    timings = time_workers(load_s=0.25, step_s=0.1)[:1]
    run, _, notes = run_with(timings, error)
    assert run.record.loader_timings == tuple(timings)
    assert len(notes) == 1


def test_an_error_of_the_model_file_is_not_swallowed():
    with pytest.raises(WorkloadError):
        run_with(error=WorkloadError("model.py:3: KeyError"))
