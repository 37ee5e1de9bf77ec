"""Where the noise comes from, and what stands of it whatever ends the stage."""

import msgspec
import pytest

from advisor.engine.command import execute
from advisor.engine.ends import WorkerDeathError
from advisor.engine.spec import Limits, Spec
from advisor.errors import UsageError
from advisor.memory.data import Probe
from advisor.noise.log import encode_noise_line
from advisor.noise.plan import conclude_noise
from advisor.noise.question import check_sample_unit, find_free_bytes, read_sources, run_noise
from advisor.questions import RUN
from advisor.training.data import TokenCount, WorkloadSpec
from tests.unit.doubles import Notes
from tests.unit.noise.drawn import along
from tests.unit.noise.streamed import keep_record, make_run
from tests.unit.samples import FACTS, derive, make_probes

STEPS = [0, 80, 160, 240, 320, 400]


def measure(batches, **limits):
    run, runner, notes = make_run(batches, **limits)
    run_noise(run)
    return run, runner, notes.notes


@pytest.mark.parametrize(
    ("base", "largest", "gradients", "training"),
    [
        (32, 4096, 16, (32, 1)),
        (512, 4096, 112, (512, 1)),  # 1797 samples fill 16 micro-batches of 112
        (512, 100, 50, (64, 8)),
        (509, 100, 50, (1, 509)),
    ],
)
def test_training_goes_at_the_base_batch_whatever_the_gradients_micro_batch(
    base, largest, gradients, training
):
    facts = msgspec.structs.replace(FACTS, base_batch_size=base, dataset_size=1797)
    run, runner, _ = make_run(facts=facts, noise_steps=10)
    probes = [each for each in make_probes() if each.stage == "throughput"]
    probes += [
        Probe(
            stage="memory",
            session=0,
            micro_batch_size=size,
            outcome="fit" if size <= largest else "oom",
            steps=3,
        )
        for size in (1, largest // 2, largest, largest + 1)
    ]
    keep_record(run, facts, probes, noise_steps=10)
    run_noise(run)
    (task,) = runner.tasks
    assert task.micro_batch_size == gradients
    path = task.trajectory
    assert (path.micro_batch_size, path.gradient_accumulation_steps) == training


def test_data_that_is_slow_to_load_makes_the_path_shorter():
    """Its batches come one after the other from the process that trains."""

    def plan(batch_s):
        run, runner, _ = make_run()
        probes = list(run.record.probes)
        loaded = Probe(
            stage="memory", session=0, micro_batch_size=8, outcome="fit", batch_s=batch_s
        )
        keep_record(run, run.facts, [*probes, loaded])
        run_noise(run)
        return runner.tasks[0].trajectory

    fast, slow = plan(None), plan(0.8)
    assert max(slow.points) < max(fast.points)
    assert len(slow.points) < len(fast.points)


def test_batch_statistics_keep_the_whole_batch():
    facts = msgspec.structs.replace(FACTS, base_batch_size=512, has_batch_statistics=True)
    run, runner, _ = make_run(facts=facts, noise_steps=10)
    run_noise(run)
    (task,) = runner.tasks
    assert task.micro_batch_size == task.trajectory.micro_batch_size == 512


def test_a_base_batch_that_cannot_be_made_is_told_with_the_noise():
    facts = msgspec.structs.replace(FACTS, base_batch_size=512)
    batches = [
        msgspec.structs.replace(each, training_batch_size=56)
        for each in along([300.0] * 6, samples=6400, steps=STEPS)
    ]
    assert "trained at batch 56, since the base batch 512" in conclude_noise(facts, batches).reason
    own = msgspec.structs.replace(facts, base_batch_size=56)
    assert "trained at batch" not in conclude_noise(own, batches).reason


def end_with(error):
    """Return a run whose stage ends with the error after three iterates, its notes and these."""
    batches = along([40.0, 60.0, 90.0], samples=3200, steps=STEPS[:3])
    run, runner, notes = make_run(batches, noise_steps=400)
    runner.error = error
    return run, notes.notes, tuple(batches)


def test_a_worker_that_dies_on_the_way_leaves_what_was_measured():
    death = WorkerDeathError("the worker was killed by signal 9", code=-9, next_step="")
    run, notes, batches = end_with(death)
    run_noise(run)
    assert run.record.noise_batches == batches
    assert notes == ["noise: the worker was killed by signal 9"]


def test_an_interrupt_on_the_way_leaves_what_was_measured():
    run, _, batches = end_with(KeyboardInterrupt())
    saved = []
    run._save = lambda found: saved.append(found.record)
    with pytest.raises(KeyboardInterrupt):
        run_noise(run)
    assert run.record.noise_batches == saved[-1].noise_batches == batches


def test_a_stage_that_measures_nothing_says_so():
    _, _, notes = measure([], noise_steps=400)
    assert notes == ["noise: no point could be measured in the memory and time there are"]


def test_all_checkpoints_are_measured(tmp_path):
    batches = along([300.0] * 6, samples=6400, steps=STEPS)
    run, runner, _ = measure(batches, checkpoints=("a.pt", "b.pt"))
    assert len(run.record.noise_batches) == 6
    assert runner.tasks[0].trajectory.checkpoints == ("a.pt", "b.pt")
    assert runner.tasks[0].trajectory.points == ()
    assert (runner.tasks[0].groups, runner.tasks[0].micro_batch_size) == (16, 32)


def test_the_worker_is_told_how_to_count_tokens():
    rule = TokenCount(tensor=1, ignored=-100)
    facts = msgspec.structs.replace(FACTS, loss_reduction="weighted", token_count=rule)
    _, runner, _ = measure(along([60.0]), facts=facts)
    assert runner.tasks[0].token_count == rule


def test_a_log_stands_for_the_measurement(tmp_path):
    path = tmp_path / "noise.jsonl"
    line = encode_noise_line(3, micro_batch_sizes=[4, 4, 8], sqnorms=[2, 4, 1], mean_sqnorm=0.5)
    path.write_text(line * 9)
    run, runner, _ = make_run(noise_log=str(path))
    read_sources(run)
    run_noise(run)
    assert runner.tasks == []
    assert len(run.record.noise_log) == 9
    assert "from the log of 9 steps" in derive(run.record).noise.reason


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ({"checkpoints": ("none.pt",)}, "no checkpoint none.pt"),
        ({"noise_log": "none.jsonl"}, "none.jsonl"),
        ({"noise_log": "a", "noise_steps": 4}, "--noise-log and --noise-steps"),
        ({"checkpoints": ("a",), "noise_steps": 0}, "--checkpoint and --noise-steps"),
    ],
)
def test_a_source_of_noise_that_cannot_be_is_a_wrong_usage(limits, word):
    with pytest.raises(UsageError) as caught:
        read_sources(make_run(**limits)[0])
    assert word in caught.value.message


def test_a_missing_file_is_told_before_any_worker_starts(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a worker was asked")

    monkeypatch.setattr("advisor.engine.runner.Runner.run", refuse)
    spec = Spec(workload=WorkloadSpec(target=__file__), limits=Limits(checkpoints=("none.pt",)))
    with pytest.raises(UsageError, match="no checkpoint"):
        execute(RUN, spec, argv=(), progress=Notes(), save=lambda _: None)


def test_tokens_are_refused_where_there_are_none():
    with pytest.raises(UsageError, match="no integer tensor"):
        check_sample_unit(make_run(sample_unit="token")[0])
    facts = msgspec.structs.replace(FACTS, tokens_per_sample=7.0)
    check_sample_unit(make_run(sample_unit="token", facts=facts)[0])
    check_sample_unit(make_run()[0])


def test_the_trend_is_in_the_conclusion():
    trend = conclude_noise(FACTS, along([40.0, 90.0, 200.0], samples=6400)).trend
    assert trend.direction == "rose"


def test_what_is_free_beside_a_step_is_told_by_a_probe_that_took_no_less():
    def probe(size, reserved, outcome="fit"):
        return Probe(
            stage="memory",
            session=0,
            micro_batch_size=size,
            outcome=outcome,
            peak_reserved_bytes=reserved,
        )

    probes = [probe(8, 100), probe(32, 300), probe(64, 700), probe(128, None, "oom")]
    assert find_free_bytes(probes, 16, 1000) == 900 - 300
    assert find_free_bytes(probes, 64, 700) == 0
    assert find_free_bytes(probes, 100, 1000) == 0
