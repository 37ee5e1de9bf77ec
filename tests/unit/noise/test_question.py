"""Where the noise comes from, and when its trajectory ends."""

import bisect
import itertools

import msgspec
import pytest

from advisor.advice.decide import decide, find_settling_noise_scale
from advisor.engine.command import execute
from advisor.engine.runner import WorkerDeathError
from advisor.engine.spec import Limits, Spec
from advisor.errors import UsageError
from advisor.memory.data import Probe
from advisor.noise.log import encode_noise_line
from advisor.noise.plan import conclude_noise
from advisor.noise.question import check_sample_unit, read_sources, run_noise
from advisor.noise.stations import MOST_ITERATES, draw_iterates, plan_edges
from advisor.questions import RUN
from advisor.statistics import Estimate
from advisor.training.data import TokenCount, WorkloadSpec
from tests.unit.doubles import Notes
from tests.unit.noise.drawn import along
from tests.unit.noise.streamed import keep_record, make_run
from tests.unit.samples import FACTS, derive, make_memory, make_probes, make_record

STEPS = [0, 80, 160, 240, 320, 400]


def measure(batches, **limits):
    run, runner, notes = make_run(batches, **limits)
    run_noise(run)
    return run, runner, notes.notes


def stream(scales, *, samples):
    """Return what a worker sends along 400 steps: of each φ the last four iterates of a span."""
    edges, sent = plan_edges(400, MOST_ITERATES), []
    points = draw_iterates(edges, MOST_ITERATES, seed=0)
    chosen = [[p for p in points if p < edge][-4:] for edge in edges[1:]]
    for step in itertools.chain(*chosen):
        place = bisect.bisect_right(edges, step)
        (each,) = along([scales[place - 1]], samples=samples, steps=[step])
        sent.append(msgspec.structs.replace(each, stands_for=tuple(edges[place - 1 : place + 1])))
    return sent


def test_a_steady_noise_scale_ends_the_trajectory_and_the_reason_is_kept():
    batches = stream([300.0] * 6, samples=6400)
    run, runner, notes = measure(batches, noise_steps=400)
    assert runner.sent < len(batches)
    assert run.record.noise_batches[-1].stands_for == (100, 200)
    assert len(derive(run.record).noise.points) == 5
    assert "ended early" in derive(run.record).noise.reason
    assert notes == ["noise: the trajectory ends early, further points change nothing"]


def test_a_noise_scale_that_rises_is_followed_to_the_end():
    batches = stream([40.0, 60.0, 90.0, 140.0, 200.0, 300.0], samples=800)
    run, runner, notes = measure(batches, noise_steps=400)
    assert runner.sent == len(batches)
    assert run.record.noise_batches == tuple(batches)
    assert notes == []


def test_the_last_point_ends_nothing_early():
    batches = along([300.0] * 6, samples=6400, steps=STEPS)
    run, _, notes = measure(batches, noise_steps=400)
    assert run.record.noise_batches == tuple(batches)
    assert notes == []


@pytest.mark.parametrize(
    ("base", "largest", "gradients", "training"),
    [
        (32, 4096, 32, (32, 1)),
        (512, 4096, 56, (512, 1)),  # 1797 samples fill 32 micro-batches of 56
        (512, 100, 56, (64, 8)),
        (509, 100, 56, (1, 509)),
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


def test_a_base_batch_that_cannot_be_made_is_told_with_the_noise():
    facts = msgspec.structs.replace(FACTS, base_batch_size=512)
    batches = [
        msgspec.structs.replace(each, training_batch_size=56)
        for each in along([300.0] * 6, samples=6400, steps=STEPS)
    ]
    assert "trained at batch 56, since the base batch 512" in conclude_noise(facts, batches).reason
    own = msgspec.structs.replace(facts, base_batch_size=56)
    assert "trained at batch" not in conclude_noise(own, batches).reason


def test_a_worker_that_dies_on_the_way_leaves_what_was_measured():
    batches = along([40.0, 60.0, 90.0], samples=3200, steps=STEPS[:3])
    run, runner, notes = make_run(batches, noise_steps=400)
    send = runner.run

    def die(task, **arguments):
        send(task, **arguments)
        raise WorkerDeathError("the worker was killed by signal 9", code=-9, next_step="")

    runner.run = die
    run_noise(run)
    assert run.record.noise_batches == tuple(batches)
    assert notes.notes == ["noise: the worker was killed by signal 9"]


def test_all_checkpoints_are_measured(tmp_path):
    batches = along([300.0] * 6, samples=6400, steps=STEPS)
    run, runner, _ = measure(batches, checkpoints=("a.pt", "b.pt"))
    assert len(run.record.noise_batches) == 6
    assert runner.tasks[0].trajectory.checkpoints == ("a.pt", "b.pt")
    assert runner.tasks[0].trajectory.points == ()


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


def test_from_the_settling_noise_scale_on_the_batch_is_the_same():
    record = make_record(FACTS, probes=make_probes())
    derived = derive(record)
    scale = find_settling_noise_scale(FACTS, derived.memory, derived.throughput)
    assert scale is not None
    batches = {derive_with(record, noise_scale) for noise_scale in (scale, 4 * scale, 1000 * scale)}
    assert len(batches) == 1
    assert derive_with(record, scale / 4) not in batches


def derive_with(record, noise_scale):
    derived = derive(record)
    known = Estimate(noise_scale, noise_scale, noise_scale)
    decision = decide(FACTS, derived.memory, derived.throughput, known)
    return decision.chosen.global_batch_size


def test_a_batch_that_is_given_does_not_settle_and_so_does_not_end_the_run():
    batches = stream([1e5, 1.3e5, 1.6e5, 2e5, 2.5e5, 3e5], samples=320_000)
    derived = derive(make_record(FACTS, probes=make_probes()))
    sent = []
    for given in (None, 64):
        scale = find_settling_noise_scale(FACTS, derived.memory, derived.throughput, given)
        run, runner, _ = make_run(batches, noise_steps=400, global_batch_size=given)
        run_noise(run, lambda scale=scale: scale)
        sent.append(runner.sent)
    assert sent[0] < sent[1] == len(batches)


def test_without_timed_sizes_nothing_settles():
    throughput = derive(make_record(FACTS, probes=make_probes())).throughput
    none = msgspec.structs.replace(throughput, points=())
    assert find_settling_noise_scale(FACTS, make_memory(), none) is None


def test_the_trend_is_in_the_conclusion():
    trend = conclude_noise(FACTS, along([40.0, 90.0, 200.0], samples=6400)).trend
    assert trend.direction == "rose"
