"""The memory stage: the user's own batch first, and the search goes on while there is time."""

import random

import msgspec
import pytest

from advisor.engine import run as engine_run
from advisor.engine.ends import WorkerTimeoutError
from advisor.engine.spec import Limits, Spec
from advisor.errors import DeviceError, WorkloadError
from advisor.memory import stage
from advisor.memory.data import PROBES, MemoryTask, Probe
from advisor.memory.plan import MEMORY
from advisor.memory.stage import measure_base, run_memory, search_on
from advisor.predict.data import TraceTask
from advisor.training.data import WorkloadSpec
from tests.given import open_run
from tests.unit.doubles import Notes
from tests.unit.samples import ENVIRONMENT, FACTS

MIB = 1 << 20


class Machine:
    """Trains what fits, in its own time: the clock moves with it."""

    def __init__(self, *, fixed_bytes, sample_bytes, start_s=0.1, sample_s=1e-5):
        self.fixed_bytes, self.sample_bytes = fixed_bytes, sample_bytes
        self.start_s, self.sample_s = start_s, sample_s
        self.now_s, self.tasks = 1000.0, []

    def monotonic(self):
        return self.now_s

    def run(self, task, *, timeout_s, on_result=None):
        self.tasks.append(task)
        self.now_s += self.start_s
        if isinstance(task, TraceTask):
            raise WorkloadError("it cannot be traced")
        size, steps_s = task.micro_batch_size, 3 * self.sample_s * task.micro_batch_size
        self.now_s += steps_s
        peak = self.fixed_bytes + self.sample_bytes * size
        seen = Probe(stage="memory", session=0, micro_batch_size=size, outcome="oom")
        if peak > task.capacity_bytes:
            return (seen,)
        return (
            msgspec.structs.replace(
                seen,
                outcome="fit",
                steps=3,
                step_times_s=(steps_s / 3,) * 3,
                forward_backward_peak_bytes=peak,
                optimizer_peak_bytes=self.fixed_bytes,
            ),
        )

    @property
    def sizes(self):
        return [task.micro_batch_size for task in self.tasks if isinstance(task, MemoryTask)]


@pytest.fixture
def search(monkeypatch):
    """Return a function that opens a run on a machine and searches within the budget."""

    def search(machine, *, base, budget_s=1000.0, **facts):
        monkeypatch.setattr(engine_run, "time", machine)
        monkeypatch.setattr(stage, "time", machine)
        spec = Spec(
            workload=WorkloadSpec(target="model.py", device="cpu"),
            limits=Limits(budget_s=budget_s, memory_limit_bytes=1 << 30),
        )
        run = open_run(spec, runner=machine, progress=Notes(), save=lambda record: None)
        run.keep_environment(ENVIRONMENT)
        run.keep_workload(msgspec.structs.replace(FACTS, base_batch_size=base, **facts))
        run_memory(run)
        return run

    return search


def test_the_users_own_batch_is_measured_first(search):
    draw = random.Random(0)
    for _ in range(50):
        base = draw.randint(1, 4000)
        machine = Machine(fixed_bytes=40 * MIB, sample_bytes=draw.randint(1 << 12, MIB // 5))
        search(machine, base=base)
        assert machine.sizes[0] == base
        assert sum(machine.sizes.count(size) for size in set(machine.sizes)) == len(machine.sizes)


def test_a_base_batch_that_must_be_accumulated_begins_with_a_part_of_it(search):
    machine = Machine(fixed_bytes=MIB, sample_bytes=MIB)
    search(machine, base=3000, dataset_size=1100)
    assert machine.sizes[0] == 1000


def test_where_the_base_batch_is_too_big_the_smallest_leads_to_the_largest_that_fits(search):
    draw = random.Random(0)
    for _ in range(50):
        machine = Machine(
            fixed_bytes=draw.randint(1, 300) * MIB, sample_bytes=draw.randint(1, 9) * MIB
        )
        largest = ((1 << 30) - machine.fixed_bytes) // machine.sample_bytes
        found = search(machine, base=draw.randint(largest + 1, 20_000)).of(MEMORY)
        assert machine.sizes[1] == 1
        assert 0.99 * largest <= found.max_micro_batch_size <= largest
        assert found.limited_by == "memory"


def test_a_model_of_which_nothing_fits_is_refused_after_two_probes(search):
    machine = Machine(fixed_bytes=2 << 30, sample_bytes=MIB)
    with pytest.raises(DeviceError, match="not even a batch of 1 fits"):
        search(machine, base=64)
    assert machine.sizes == [64, 1]


class Picky(Machine):
    """Has a kernel that takes no batch of 1000."""

    def run(self, task, *, timeout_s, on_result=None):
        if isinstance(task, MemoryTask) and task.micro_batch_size >= 1000:
            self.tasks.append(task)
            raise WorkloadError("CUDA error: invalid configuration argument")
        return super().run(task, timeout_s=timeout_s)


def test_a_size_that_a_kernel_refuses_ends_the_range_and_not_the_run(search):
    run = search(Picky(fixed_bytes=100 * MIB, sample_bytes=MIB // 10), base=16)
    memory = run.of(MEMORY)
    assert 950 < memory.max_micro_batch_size < 1000
    assert (memory.limited_by, memory.ooms) == ("kernel", 0)
    with pytest.raises(WorkloadError, match="invalid configuration"):
        search(Picky(fixed_bytes=MIB, sample_bytes=1), base=1000)


def test_slow_starts_leave_out_the_trace_and_no_probe_outlasts_its_share(search):
    machine = Machine(fixed_bytes=40 * MIB, sample_bytes=MIB // 4, start_s=4.0)
    run = search(machine, base=64, budget_s=60.0)
    assert not any(isinstance(task, TraceTask) for task in machine.tasks)
    assert machine.now_s - 1000.0 <= 0.3 * 60.0
    assert run.of(MEMORY).limited_by == "budget"


def test_the_search_goes_on_where_it_ended_until_it_is_done_or_the_time_is_up(search):
    draw = random.Random(0)
    for _ in range(50):
        machine = Machine(
            fixed_bytes=40 * MIB, sample_bytes=MIB // 4, start_s=draw.uniform(1.0, 9.0)
        )
        run = search(machine, base=64, budget_s=draw.uniform(20.0, 200.0))
        seen, went_on = len(machine.sizes), 0
        while not run.is_spent and search_on(run):
            went_on += 1
        assert len(machine.sizes) == seen + went_on == len(run.record.all(PROBES))
        found = run.of(MEMORY)
        # What is left would not have started another worker and run its steps.
        assert found.verified or run.unspent_s < 2.0 * machine.start_s + 1.0
        assert run.unspent_s > -1.0
        assert not search_on(run) or not found.verified


def test_a_step_of_the_base_batch_takes_no_longer_than_one_of_a_larger_batch(search):
    machine = Machine(fixed_bytes=MIB, sample_bytes=MIB, sample_s=1e-3)
    run = search(machine, base=64)
    assert measure_base(run) == pytest.approx(0.064)
    first, *others = run.record.all(PROBES)
    slow = msgspec.structs.replace(first, step_times_s=(9.0, 8.0, 7.0))
    run.replace(PROBES, (slow, *others))
    larger = min(min(probe.step_times_s) for probe in others if probe.outcome == "fit")
    assert measure_base(run) == larger < 7.0


class Hanging(Machine):
    """Hangs where a batch is larger than the user's own."""

    def run(self, task, *, timeout_s, on_result=None):
        if isinstance(task, MemoryTask) and self.sizes:
            self.now_s += timeout_s
            raise WorkerTimeoutError("it hangs at line 7")
        return super().run(task, timeout_s=timeout_s)


def test_a_size_that_hangs_leaves_the_other_stages_their_time(search):
    machine = Hanging(fixed_bytes=40 * MIB, sample_bytes=MIB // 4)
    run = search(machine, base=64, budget_s=60.0)
    assert [probe.outcome for probe in run.record.all(PROBES)] == ["fit", "timeout"]
    assert 20.0 < run.left_s < 31.0
    assert any("it hangs at line 7" in note for note in run.progress.notes)
