import msgspec
import pytest

from advisor.device.data import DeviceFacts, Environment, Telemetry
from advisor.engine.task import EnvironmentTask, InspectTask
from advisor.loader.data import LoaderTask, LoaderTiming
from advisor.memory.data import MemoryTask, Probe
from advisor.noise.data import GradientMoments, NoiseBatches, NoiseTask, Trajectory
from advisor.predict.data import TraceTask
from advisor.rate.data import TrialBranch, TrialTask
from advisor.soak.data import Soak, SoakTask
from advisor.throughput.data import ThroughputTask
from advisor.training.data import WorkloadSpec
from tests.replay import NotRecordedError, RecordingEndError, ReplayRunner
from tests.unit.samples import FACTS, make_record

WORKLOAD = WorkloadSpec(target="model.py")
MOMENTS = GradientMoments(sqnorms=(1.0,), group_sqnorms=(1.0,), group_dots=(1.0,), total_sqnorm=1.0)
ENVIRONMENT = Environment(
    device=DeviceFacts(kind="cpu", name="CPU", memory_bytes=2**30, available_bytes=2**29),
    torch="2.8", python="3.11", platform="Linux", cpu="CPU", cpu_threads=2,
)  # fmt: skip


def probe(stage, session, size, **fields):
    return Probe(stage=stage, session=session, micro_batch_size=size, outcome="fit", **fields)


def record(**fields):
    return msgspec.structs.replace(make_record(probes=()), workload=FACTS, **fields)


def ask(recorded, task, *, runner=None):
    return (runner or ReplayRunner(recorded)).run(task, timeout_s=1.0)


def throughput(session, *sizes):
    return ThroughputTask(
        workload=WORKLOAD,
        micro_batch_sizes=sizes,
        session=session,
        block_s=0.1,
        rounds=1,
        budget_s=1.0,
    )


TIMED = record(
    probes=tuple(
        probe("throughput", session, size, step_times_s=(0.1,))
        for session in range(2)
        for size in (8, 16, 32)
    ),
    telemetry=(Telemetry(session=1, at_s=(0.0, 1.0)),),
)


def test_a_session_is_answered_with_the_sizes_that_are_asked_for():
    seen = []
    runner = ReplayRunner(TIMED)
    results = runner.run(throughput(1, 32, 8), timeout_s=1.0, on_result=seen.append)
    assert [(p.session, p.micro_batch_size) for p in results] == [(1, 8), (1, 32)]
    assert seen == list(results)


def test_a_session_beyond_the_last_is_said_to_be():
    with pytest.raises(RecordingEndError, match=r"recording ends: session 2 .* 2 sessions"):
        ask(TIMED, throughput(2, 8))


def test_a_size_that_was_not_timed_is_never_made_up():
    with pytest.raises(NotRecordedError, match="did not time batch 12, 20") as raised:
        ask(TIMED, throughput(0, 8, 12, 20))
    assert not isinstance(raised.value, RecordingEndError)


def test_counters_are_the_recorded_ones_of_the_session():
    runner, device = ReplayRunner(TIMED), None
    with runner.watched(device, session=1) as read:
        assert read().at_s == (0.0, 1.0)
    with runner.watched(device, session=0) as read:
        assert read() == Telemetry(session=0)


def test_memory_at_one_size_is_answered_in_turn_until_the_recording_ends():
    probes = (probe("memory", 0, 8), probe("memory", 1, 8), probe("memory", 2, 4))
    runner = ReplayRunner(record(probes=probes))
    task = MemoryTask(workload=WORKLOAD, micro_batch_size=8, capacity_bytes=None)
    assert [runner.run(task, timeout_s=1.0)[0].session for _ in range(2)] == [0, 1]
    with pytest.raises(RecordingEndError, match="memory at batch 8"):
        runner.run(task, timeout_s=1.0)
    with pytest.raises(NotRecordedError, match="memory at batch 9"):
        runner.run(msgspec.structs.replace(task, micro_batch_size=9), timeout_s=1.0)


def test_the_model_file_is_as_it_was_recorded():
    assert ask(record(), InspectTask(workload=WORKLOAD)) == (FACTS,)
    assert ask(record(environment=ENVIRONMENT), EnvironmentTask()) == (ENVIRONMENT,)


def test_an_environment_that_was_not_recorded_is_missing():
    with pytest.raises(NotRecordedError, match="environment"):
        ask(record(environment=None), EnvironmentTask())


def test_noise_soak_and_loader_are_given_once():
    noise = tuple(
        NoiseBatches(at_step=step, loss=1.0, micro_batch_sizes=(8,), groups=(0,), plain=MOMENTS)
        for step in (0, 10)
    )
    soak = Soak(micro_batch_size=8, outcome="fit")
    timings = (
        LoaderTiming(workers=0, micro_batch_size=8),
        LoaderTiming(workers=2, micro_batch_size=8),
    )
    recorded = record(noise_batches=noise, soaks=(soak,), loader_timings=timings)
    runner = ReplayRunner(recorded)
    tasks = [
        (NoiseTask(
            workload=WORKLOAD, micro_batch_size=8, groups=16, max_micro_batches=9,
            trajectory=Trajectory(micro_batch_size=8, points=(0, 10), budget_s=1.0),
        ), noise),
        (SoakTask(
            workload=WORKLOAD, micro_batch_size=8, gradient_accumulation_steps=1,
            capacity_bytes=None, steps=3, evaluations=1, budget_s=1.0,
        ), (soak,)),
        (LoaderTask(workload=WORKLOAD, micro_batch_size=8, budget_s=1.0), timings),
    ]  # fmt: skip
    for task, expected in tasks:
        assert ask(recorded, task, runner=runner) == expected
        with pytest.raises(RecordingEndError):
            ask(recorded, task, runner=runner)


def test_a_trial_is_found_by_batch_rate_seed_and_length():
    branches = {
        (seed, samples): TrialBranch(
            micro_batch_size=8, gradient_accumulation_steps=1, global_batch_size=8,
            learning_rate=0.1, seed=seed, samples=samples, evaluations=(), diverged=False,
        )
        for seed in (0, 1, 2) for samples in (64, 32)
    }  # fmt: skip
    recorded = record(trials=tuple(branches.values()))
    task = TrialTask(
        workload=WORKLOAD, micro_batch_size=8, gradient_accumulation_steps=1, learning_rate=0.1,
        samples=64, evaluations=2, seeds=(2, 0),
    )  # fmt: skip
    assert ask(recorded, task) == (branches[2, 64], branches[0, 64])
    both = msgspec.structs.replace(task, shorter_samples=(32,))
    assert ask(recorded, both) == tuple(branches[seed, n] for seed in (2, 0) for n in (64, 32))
    with pytest.raises(NotRecordedError, match=r"rate 0\.2"):
        ask(recorded, msgspec.structs.replace(task, learning_rate=0.2))
    with pytest.raises(NotRecordedError, match="seed 7"):
        ask(recorded, msgspec.structs.replace(task, seeds=(0, 7)))
    with pytest.raises(NotRecordedError, match="seed 2"):
        ask(recorded, msgspec.structs.replace(task, samples=128))


def test_a_trace_is_in_no_recording():
    with pytest.raises(NotRecordedError, match="TraceTask"):
        ask(record(), TraceTask(workload=WORKLOAD, operators="cpu"))
