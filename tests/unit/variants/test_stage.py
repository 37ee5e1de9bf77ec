import contextlib

import msgspec
import pytest

from advisor.advice.plan import ADVICE
from advisor.device.data import Telemetry
from advisor.engine.ends import WorkerTimeoutError
from advisor.engine.spec import Limits, Spec
from advisor.errors import WorkloadError
from advisor.memory.data import MemoryTask, Probe
from advisor.predict.data import TraceTask
from advisor.rate.data import TrialTask
from advisor.throughput.data import ThroughputTask
from advisor.throughput.step_time import estimate_compile_s, estimate_step_s, read_probes
from advisor.training.data import Variant, WorkloadSpec
from advisor.variants.data import VARIANTS
from advisor.variants.stage import list_variants, reserve_time, run_variants
from tests.given import open_run
from tests.unit.doubles import Notes
from tests.unit.samples import ENVIRONMENT, make_record
from tests.unit.variants.measured_variants import KNOWN, compare, make_losses, make_probes

GIB = 2**30
SAMPLE_BYTES = 8 << 20
#: What four fifths of the memory hold.
LARGEST = int(0.8 * 4 * GIB) // SAMPLE_BYTES


class FakeRunner:
    """Answers every task at once: bf16 is twice as fast, and what `failing` names fails."""

    def __init__(self, failing):
        self.failing = failing
        self.tasks = []

    @contextlib.contextmanager
    def watched(self, device, *, session):
        """Yield what has no counters."""
        yield lambda: Telemetry(session=session)

    def run(self, task, *, timeout_s, on_result=None):
        assert timeout_s > 0.0
        self.tasks.append(task)
        error = self.failing.get((task.workload.precision, type(task)))
        if error is not None:
            raise error
        results = list(self.answer(task))
        for result in results:
            if on_result is not None:
                on_result(result)
        return tuple(results)

    def answer(self, task):
        if isinstance(task, TraceTask):
            raise WorkloadError("no trace")
        if isinstance(task, MemoryTask):
            fits = task.micro_batch_size <= LARGEST
            yield Probe(
                stage="memory",
                session=0,
                micro_batch_size=task.micro_batch_size,
                outcome="fit" if fits else "oom",
                steps=3 * fits,
                step_times_s=(0.003, 0.001, 0.001) if fits else (),
                forward_backward_peak_bytes=task.micro_batch_size * SAMPLE_BYTES if fits else None,
                optimizer_peak_bytes=1 << 20 if fits else None,
                capacity_bytes=task.capacity_bytes,
            )
        if isinstance(task, ThroughputTask):
            speed = 2.0 if task.workload.precision == "bf16" else 1.0
            for probe in make_probes(speed, task.micro_batch_sizes, sessions=1)[1:]:
                yield msgspec.structs.replace(probe, session=task.session)
        if isinstance(task, TrialTask):
            yield from make_losses([0.5 for _ in task.seeds], size=task.micro_batch_size)


def ask(run, variants):
    run.replace(VARIANTS, list_variants((Variant(precision="fp32"), *variants)))
    reserve_time(run)


def run_with(*variants, failing=None, facts=KNOWN, budget_s=1000.0, saved=None):
    runner, notes = FakeRunner(failing or {}), Notes()
    spec = Spec(
        workload=WorkloadSpec(target="model.py", device="cpu"),
        limits=Limits(budget_s=budget_s),
    )
    save = (lambda _: None) if saved is None else (lambda found: saved.append(found.record))
    run = open_run(spec, runner=runner, progress=notes, save=save)
    run.record = make_record(facts, probes=make_probes())
    run.keep_environment(ENVIRONMENT)
    run.keep_workload(facts)
    ask(run, variants)
    run_variants(run)
    return run, runner.tasks


BF16 = Variant(precision="bf16")


def test_a_variant_goes_through_the_stages_of_a_run_and_is_put_beside_it():
    run, tasks = run_with(BF16)
    first, second = compare(run.record)
    assert 0.99 * LARGEST <= second.max_micro_batch_size <= LARGEST  # to the search's resolution
    assert second.speed_ratio.point == pytest.approx(2.0, rel=0.05)
    assert second.missing_because is second.loss_missing_because is None
    assert first.loss.difference is None
    assert second.loss.difference.point == 0.0
    measured = [task for task in tasks if not isinstance(task, TrialTask)]
    assert {task.workload.precision for task in measured} == {"bf16"}
    assert run.record.variants[1].elapsed_s is not None


def test_the_run_itself_is_left_as_it_was():
    run, _ = run_with(BF16)
    assert run.record.probes == make_probes()
    assert run.record.workload == KNOWN
    assert run.record.command.precision == "fp32"


def test_every_variant_times_the_advised_batch():
    run, tasks = run_with(BF16)
    advised = run.of(ADVICE).micro_batch_size
    timed = [task for task in tasks if isinstance(task, ThroughputTask)]
    sessions = {task.session for task in timed}
    assert len(sessions) >= 3
    for session in sessions:
        sizes = [task.micro_batch_sizes for task in timed if task.session == session]
        assert advised in {size for each in sizes for size in each}


def test_the_loss_runs_differ_in_the_variant_alone():
    _, tasks = run_with(BF16, Variant(precision="fp32", compile=True))
    trials = [task for task in tasks if isinstance(task, TrialTask)]
    ways = [(task.workload.precision, task.workload.compile) for task in trials]
    assert ways == [("fp32", False), ("bf16", False), ("fp32", True)]
    task, *others = trials
    assert all(msgspec.structs.replace(each, workload=task.workload) == task for each in others)
    assert task.micro_batch_size == KNOWN.base_batch_size
    assert task.learning_rate == KNOWN.optimizer.learning_rate
    assert len(task.seeds) >= 3


@pytest.mark.parametrize("stage", [MemoryTask, ThroughputTask])
def test_a_variant_that_fails_is_a_row_and_the_next_one_runs(stage):
    failing = {("bf16", stage): WorkloadError("model.py:3: no such operator")}
    run, _ = run_with(BF16, Variant(precision="fp16"), failing=failing)
    _, second, third = compare(run.record)
    assert second.missing_because == "model.py:3: no such operator"
    assert third.missing_because is None
    assert third.loss is not None


def test_a_variant_that_takes_too_long_asks_for_time():
    failing = {("bf16", MemoryTask): WorkerTimeoutError("model.py did not finish within 9 s")}
    run, _ = run_with(BF16, failing=failing)
    assert run.record.variants[1].missing_because.endswith("raise --budget")
    assert run.record.variants[1].loss_missing_because == "no size of it ran"


def test_a_loss_run_that_fails_leaves_the_speed():
    failing = {("bf16", TrialTask): WorkloadError("model.py:9: KeyError")}
    run, _ = run_with(BF16, failing=failing)
    variant = compare(run.record)[1]
    assert variant.loss_missing_because == "model.py:9: KeyError"
    assert variant.speed_ratio is not None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"has_dataset": False}, "make_dataset"),
        ({"optimizer": None}, "learning rate"),
    ],
)
def test_where_no_loss_can_be_measured_every_variant_says_why(changes, words):
    facts = msgspec.structs.replace(KNOWN, **changes)
    run, tasks = run_with(BF16, facts=facts)
    assert not any(isinstance(task, TrialTask) for task in tasks)
    assert all(words in each.loss_missing_because for each in run.record.variants)


def test_make_step_has_no_variants_but_says_so():
    facts = msgspec.structs.replace(KNOWN, is_step_only=True, optimizer=None, has_dataset=False)
    run, tasks = run_with(BF16, facts=facts)
    assert tasks == []
    assert "make_step" in run.record.variants[1].missing_because


def test_without_time_nothing_is_started_and_each_variant_says_so():
    run, tasks = run_with(BF16, budget_s=1e-9)
    assert tasks == []
    assert "no time was left" in run.record.variants[1].missing_because


def test_time_is_set_aside_only_for_what_can_run():
    def reserve(*variants, budget_s=100.0):
        spec = Spec(
            workload=WorkloadSpec(target="m.py"),
            limits=Limits(budget_s=budget_s),
        )
        run = open_run(spec, runner=None, progress=Notes(), save=lambda record: None)
        run.keep_environment(ENVIRONMENT)
        run.keep_workload(KNOWN)
        ask(run, variants)
        return run

    assert reserve().reserved_fraction == 0.0
    assert reserve(BF16).reserved_fraction == pytest.approx(0.2)
    assert reserve(BF16, Variant(precision="tf32")).reserved_fraction == pytest.approx(0.2)
    assert reserve(*[BF16] * 9).reserved_fraction == pytest.approx(0.5)
    assert reserve(BF16).left_s <= 80.0
    assert "ended before" in reserve(BF16).record.variants[1].missing_because


def test_every_result_is_saved_as_it_comes():
    saved = []
    run_with(BF16, saved=saved)
    counts = [len(record.variants[1].probes) for record in saved if record.variants]
    assert counts == sorted(counts)
    assert {0, 1} < set(counts)


def test_a_step_is_the_fastest_of_those_that_ran():
    times = read_probes([probe(8, (0.5, 0.1, 0.2)), probe(32, (0.9, 0.3)), probe(64, ())])
    assert times.step_s == {8: 0.1, 32: 0.3}
    assert estimate_step_s(times, 4) == pytest.approx(0.1)
    assert estimate_step_s(times, 20) == pytest.approx(0.2)
    assert estimate_step_s(times, 64) == pytest.approx(0.6)
    assert estimate_step_s(read_probes([]), 64) is None


def test_compiling_is_what_the_first_step_takes_beyond_the_fastest():
    probes = [probe(8, (5.1, 0.1, 0.2)), probe(32, (7.3, 0.3)), probe(64, ())]
    assert estimate_compile_s(probes) == pytest.approx(6.0)
    assert estimate_compile_s([]) == 0.0


def probe(size, times):
    return Probe(
        stage="memory", session=0, micro_batch_size=size, outcome="fit", step_times_s=times
    )
