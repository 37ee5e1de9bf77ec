from types import SimpleNamespace

import msgspec

from advisor.device.data import DeviceFacts
from advisor.engine.spec import Limits, Spec
from advisor.errors import WorkloadError
from advisor.memory.data import Probe
from advisor.memory_savings.question import run_memory_savings
from advisor.predict.changes import trace_changes
from advisor.predict.data import PREDICTED_MEMORY, TRACE, Breakdown, TraceTask
from advisor.predict.pieces import derive_pieces
from advisor.training.data import OptimizerFacts, WorkloadSpec
from tests.given import open_run
from tests.unit.doubles import FakeRunner, Notes
from tests.unit.predict.sample_trace import MIB, build_trace
from tests.unit.report.sample_run import build_environment
from tests.unit.samples import FACTS, FIXED_S, PER_SAMPLE_S, derive, make_record

BASE = build_trace()
LEANER = build_trace(activation_bytes=4 * MIB)
CHECKPOINTED = msgspec.structs.replace(LEANER, checkpointed=("layers.0", "layers.1"))
#: By the trace 25 samples take 456 MiB and 26 take 464 MiB; the run saw 24 fit and 25 fail.
LIMIT = 460 * MIB
LARGEST = 24


def trace_for(task):
    return CHECKPOINTED if task.checkpoint_blocks else LEANER


def list_with(answer, *, operators="cuda", precision="fp32", with_optimizer=True, left_s=99.0):
    runner, notes = FakeRunner(answer), Notes()
    workload = WorkloadSpec(target="model.py", precision=precision)
    found = trace_changes(
        SimpleNamespace(runner=runner, progress=notes),
        TraceTask(workload=workload, operators=operators, batch_multiple=4),
        with_optimizer=with_optimizer,
        left_s=lambda: left_s,
    )
    return [one.change for one in found], runner.tasks, notes.notes


def test_each_change_is_traced_alone_and_as_the_training_was():
    changes, tasks, _ = list_with(trace_for)
    assert changes == ["checkpointing", "bf16", "foreach_off"]
    assert [task.checkpoint_blocks for task in tasks] == [True, False, False]
    assert [task.workload.precision for task in tasks] == ["fp32", "bf16", "fp32"]
    assert [task.foreach for task in tasks] == [None, None, False]
    assert {task.batch_multiple for task in tasks} == {4}


def test_what_cannot_change_anything_is_not_traced():
    assert list_with(trace_for, precision="fp16")[0] == ["checkpointing", "foreach_off"]
    assert list_with(trace_for, operators="cpu")[0] == ["checkpointing", "bf16"]
    assert list_with(trace_for, with_optimizer=False)[0] == ["checkpointing", "bf16"]


def test_a_model_without_repeated_blocks_has_nothing_to_checkpoint():
    assert "checkpointing" not in list_with(lambda task: LEANER)[0]


def test_a_trace_of_one_size_is_not_compared():
    one = msgspec.structs.replace(CHECKPOINTED, method="per_size", traced_sizes=(3,))
    assert list_with(lambda task: one)[0] == []


def test_a_change_that_fails_is_said_and_the_others_go_on():
    def answer(task):
        is_bf16 = task.workload.precision == "bf16"
        return WorkloadError("no kernel for it") if is_bf16 else trace_for(task)

    changes, _, notes = list_with(answer)
    assert changes == ["checkpointing", "foreach_off"]
    assert notes == ["remedies: no trace with bf16 autocast (no kernel for it)"]


def test_without_time_nothing_is_started():
    changes, tasks, notes = list_with(trace_for, left_s=1.0)
    assert (changes, tasks) == ([], [])
    assert notes == ["remedies: no time left to trace them all"]


def make_probes():
    memory = [
        Probe(
            stage="memory",
            session=0,
            micro_batch_size=size,
            outcome="fit" if size <= LARGEST else "oom",
            steps=3,
            forward_backward_peak_bytes=(256 + 8 * size) * MIB,
            optimizer_peak_bytes=320 * MIB,
        )
        for size in (1, LARGEST, LARGEST + 1)
    ]
    timed = [
        Probe(
            stage="throughput",
            session=session,
            micro_batch_size=size,
            outcome="fit",
            step_times_s=((FIXED_S + PER_SAMPLE_S * size) * (1 + 0.002 * session),) * 3,
        )
        for session in range(3)
        for size in (1, 2, 4, 8, 16, LARGEST)
    ]
    return memory + timed


def run_with(*, traced=True, kind="cpu", answer=trace_for, probes=None, **limited):
    limits = Limits(budget_s=1000.0, **limited)
    spec = Spec(workload=WorkloadSpec(target="model.py"), limits=limits)
    run = open_run(spec, runner=FakeRunner(answer), progress=Notes(), save=lambda record: None)
    optimizer = OptimizerFacts(name="AdamW", learning_rate=1e-3)
    facts = msgspec.structs.replace(FACTS, has_dataset=False, optimizer=optimizer)
    record = make_record(facts, probes=probes or make_probes())
    environment = build_environment()
    device = DeviceFacts(kind=kind, name="x", memory_bytes=2 * LIMIT, available_bytes=LIMIT)
    run.record = msgspec.structs.replace(
        record,
        command=msgspec.structs.replace(record.command, limits=limits, memory_limit_bytes=LIMIT),
        environment=msgspec.structs.replace(environment, device=device),
    )
    if traced:
        run.hold(TRACE, BASE)
        run.set(PREDICTED_MEMORY, derive_pieces(BASE))
    run_memory_savings(run)
    return run


def test_a_run_that_memory_limits_is_told_what_holds_it_and_what_would_help():
    run = run_with()
    assert isinstance(run.record.peak, Breakdown)
    derived = derive(run.record)
    assert derived.recommendation.limiting_factor == "memory"
    found = derived.what_would_change
    # The run's own largest size, not the trace's, so that the two can be compared.
    assert found.max_micro_batch_size == LARGEST
    assert run.record.peak.micro_batch_size == found.micro_batch_size
    assert {one.name for one in found.savings} == {"bf16 autocast", "activation checkpointing"}
    for one in found.savings:
        assert abs(one.max_micro_batch_size - 2 * LARGEST) <= 2


def test_the_record_keeps_pieces_and_no_traces():
    run = run_with()
    assert [one.change for one in run.record.what_ifs] == ["checkpointing", "bf16"]
    assert all(len(one.memory.forward_backward) <= 3 for one in run.record.what_ifs)


def test_changes_are_traced_at_sizes_that_the_model_runs():
    assert {task.batch_multiple for task in run_with(batch_multiple=4).runner.tasks} == {4}


def test_8_bit_state_is_for_a_gpu():
    run = run_with(kind="cuda")
    assert run.record.what_ifs[-1].change == "state_8bit"


def test_without_a_trace_or_where_memory_is_no_limit_nothing_is_traced():
    assert run_with(traced=False).record.peak is None
    fast = [
        msgspec.structs.replace(probe, step_times_s=(0.1 * probe.micro_batch_size,) * 3)
        if probe.stage == "throughput"
        else probe
        for probe in make_probes()
    ]
    run = run_with(probes=fast)
    assert run.record.peak is None
    assert derive(run.record).what_would_change is None
