import signal

import msgspec
import pytest

from advisor.advice.plan import ADVICE, find_advised_way
from advisor.engine.ends import WorkerDeathError, WorkerTimeoutError
from advisor.engine.spec import Limits, Spec
from advisor.soak.data import Soak
from advisor.soak.question import run_soak
from advisor.training.data import WorkloadSpec
from tests.given import open_run
from tests.unit.doubles import FakeRunner, Notes
from tests.unit.samples import FACTS, make_probes, make_record

MIB = 2**20


def answer(fits=lambda task: True, slope=0, steps=60):
    def make(task):
        return Soak(
            micro_batch_size=task.micro_batch_size,
            gradient_accumulation_steps=task.gradient_accumulation_steps,
            outcome="fit" if fits(task) else "oom",
            steps=steps,
            held_bytes=tuple(slope * step for step in range(steps)),
        )

    return make


def run_with(make, *, probes=None, budget_s=1000.0, **limits):
    runner, notes = FakeRunner(make), Notes()
    limits = Limits(budget_s=budget_s, **limits)
    spec = Spec(workload=WorkloadSpec(target="model.py"), limits=limits)
    run = open_run(spec, runner=runner, progress=notes, save=lambda record: None)
    facts = msgspec.structs.replace(FACTS, has_dataset=False, base_batch_size=512)
    record = make_record(facts, probes=probes or make_probes())
    run.record = msgspec.structs.replace(
        record, command=msgspec.structs.replace(record.command, limits=limits)
    )
    run_soak(run, lambda: find_advised_way(run.conclusions))
    return run, runner.tasks, notes.notes


def test_the_advised_size_is_soaked_once_where_it_holds():
    run, tasks, _ = run_with(answer(), reserve=True)
    (task,) = tasks
    advice = run.of(ADVICE)
    assert task.micro_batch_size == advice.micro_batch_size
    assert (task.steps, task.evaluations, task.reserve) == (60, 3, True)
    assert task.capacity_bytes == 1000
    assert task.budget_s <= 1000.0 / 3.0  # the traces of savings are promised the rest
    assert len(run.record.soaks) == 1


def test_smaller_micro_batches_of_the_same_batch_follow_a_failure():
    before, _, _ = run_with(answer())
    batch = before.of(ADVICE).global_batch_size
    run, tasks, _ = run_with(answer(lambda task: task.micro_batch_size < batch // 2, steps=4))
    products = {task.micro_batch_size * task.gradient_accumulation_steps for task in tasks}
    assert products == {batch}
    assert tasks[-1].micro_batch_size < batch // 2
    assert run.of(ADVICE).micro_batch_size == tasks[-1].micro_batch_size


def test_three_steps_down_are_the_most():
    run, tasks, _ = run_with(answer(lambda task: False, steps=4))
    assert len(tasks) == len({task.micro_batch_size for task in tasks}) == 4
    advised = run.of(ADVICE).micro_batch_size
    assert advised < min(task.micro_batch_size for task in tasks)


def test_memory_that_a_leak_filled_ends_the_soaks():
    run, tasks, _ = run_with(answer(lambda task: False, slope=MIB, steps=40))
    assert len(tasks) == 1
    assert "Memory grows" in run.of(ADVICE).warnings[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_memory_may_have_killed_counts_as_out_of_memory(number):
    death = WorkerDeathError("model.py was killed", code=-number, next_step="Look.")

    def make(task):
        return death if task.gradient_accumulation_steps == 1 else answer()(task)

    run, _, _ = run_with(make)
    assert run.record.soaks[0].outcome == "oom"
    assert run.record.soaks[-1].outcome == "fit"


def test_any_other_death_is_the_models():
    death = WorkerDeathError("model.py ended", code=0, next_step="Look.")
    with pytest.raises(WorkerDeathError):
        run_with(lambda task: death)


def test_a_soak_that_outlasts_the_run_ends_the_stage():
    with pytest.raises(WorkerTimeoutError):
        run_with(lambda task: WorkerTimeoutError("slow", next_step="Wait."))


def test_a_step_too_slow_for_the_time_left_is_not_soaked():
    slow = [
        msgspec.structs.replace(probe, step_times_s=tuple(1000 * s for s in probe.step_times_s))
        for probe in make_probes()
    ]
    run, tasks, notes = run_with(answer(), probes=slow, budget_s=60.0)
    assert (tasks, run.record.soaks) == ([], ())
    assert "take longer than the time for it" in notes[0]


def test_a_spent_budget_leaves_no_time():
    _, tasks, notes = run_with(answer(), budget_s=0.0)
    assert tasks == []
    assert "no time left" in notes[0]


def test_without_advice_nothing_is_soaked():
    _, tasks, notes = run_with(answer(), probes=make_probes(sessions=0))
    assert (tasks, notes) == ([], [])
