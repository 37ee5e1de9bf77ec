from itertools import pairwise

import msgspec
import pytest

from advisor.engine.ends import WorkerTimeoutError
from advisor.engine.spec import Limits, Spec
from advisor.errors import DeviceError, UsageError
from advisor.race.ways import WAYS, find_way
from advisor.rate.conclude import settle_ranged_rate
from advisor.rate.range_data import RangePlan
from advisor.rate.range_stage import resolve_plan, run_ranged_rate
from advisor.rate.range_test import conclude_lr_range
from advisor.training.data import WorkloadSpec
from tests.given import open_run
from tests.unit.doubles import Notes
from tests.unit.rate.range_samples import DEFAULT, UNTUNED, RangeRunner
from tests.unit.samples import ADAMW, FACTS, make_probes, make_record


def run_with(facts=UNTUNED, *, budget_s=1000.0, **behaviour):
    runner, notes = RangeRunner(**behaviour), Notes()
    spec = Spec(workload=WorkloadSpec(target="model.py"), limits=Limits(budget_s=budget_s))
    run = open_run(spec, runner=runner, progress=notes, save=lambda record: None)
    run.record = make_record(facts, probes=make_probes())
    run_ranged_rate(run, lambda: find_way(run.of(WAYS), 32))
    return run, runner, notes.notes


def settle(run):
    record = run.record
    return settle_ranged_rate(record.workload, record.lr_ranges, record.trials, 32)


@pytest.mark.parametrize("facts", [UNTUNED, DEFAULT])
def test_a_run_without_a_base_rate_gets_one_that_was_run(facts):
    run, runner, notes = run_with(facts)
    range_task, trial = runner.tasks[:2]
    rate = settle(run)
    assert range_task.low_rate == pytest.approx(facts.optimizer.learning_rate * 1e-4)
    assert range_task.high_rate == pytest.approx(facts.optimizer.learning_rate * 1e3)
    assert trial.learning_rate == rate.value == conclude_lr_range(run.record.lr_ranges).suggested
    assert not set(trial.seeds) & set(range_task.seeds)
    assert notes == []


def test_a_run_with_a_base_rate_needs_no_range_test():
    run, runner, _ = run_with(FACTS)
    assert runner.tasks == []
    assert run.record.lr_ranges == ()


def test_rates_are_lowered_by_the_root_of_two_until_one_trains():
    run, runner, _ = run_with(largest=0.05)
    rates = [task.learning_rate for task in runner.tasks[1:]]
    assert len(rates) > 1
    assert rates[0] / min(rates) >= 2.0
    assert all(one / two == pytest.approx(2**0.5) for one, two in pairwise(rates))
    trained = [rate for rate in rates if rate <= 0.05]
    rate = settle(run)
    assert rate.value in trained
    assert rate.capped_by == "trial"


def test_a_higher_rate_that_trains_better_is_advised():
    run, runner, _ = run_with(best=0.4)
    rate = settle(run)
    assert rate.value > runner.tasks[1].learning_rate
    assert rate.value == pytest.approx(0.4, rel=0.2)
    assert rate.raised_by == "trial"


def test_a_curve_that_never_falls_starts_no_trial():
    run, runner, notes = run_with(fall=0.0, noise=0.1)
    assert len(runner.tasks) == 1
    assert "never fell" in notes[0]
    assert settle(run).value is None


def test_a_run_without_curves_says_that_time_was_short():
    _, runner, notes = run_with(count=0)
    assert len(runner.tasks) == 1
    assert "no time left" in notes[0]


def test_a_trial_cut_short_is_not_repeated():
    run, runner, _ = run_with(seeds=1)
    assert len(runner.tasks) == 2
    assert settle(run).value is None


@pytest.mark.parametrize(
    "error",
    [WorkerTimeoutError("it hangs"), DeviceError("a step at micro-batch 512 does not fit")],
)
def test_a_range_test_that_fails_leaves_the_rest_of_the_run(error):
    run, _, notes = run_with(error=error)
    assert run.record.lr_ranges == ()
    assert notes[0].startswith("range test: ")


def test_without_data_there_is_no_range_test():
    _, runner, _ = run_with(msgspec.structs.replace(UNTUNED, has_dataset=False))
    assert runner.tasks == []


def resolve(facts=FACTS, **asked):
    return resolve_plan(RangePlan(**asked), facts)


def test_the_batch_is_the_base_batch_and_the_range_lies_around_the_own_rate():
    command = resolve()
    assert command.global_batch_size == command.micro_batch_size == 32
    assert command.gradient_accumulation_steps == 1
    assert (command.low_rate, command.high_rate) == pytest.approx((1e-4, 1e3))


@pytest.mark.parametrize(
    ("fields", "size"),
    [({}, 32), ({"dataset_size": 20}, 20), ({"min_micro_batch_size": 64}, 64)],
)
def test_without_a_base_batch_it_is_32_or_what_model_and_data_allow(fields, size):
    assert resolve(msgspec.structs.replace(UNTUNED, **fields)).global_batch_size == size


def test_a_micro_batch_splits_the_batch_and_rounds_a_default_one():
    command = resolve(global_batch_size=96, micro_batch_size=32)
    assert (command.micro_batch_size, command.gradient_accumulation_steps) == (32, 3)
    assert resolve(micro_batch_size=12).global_batch_size == 24


LBFGS = msgspec.structs.replace(ADAMW, name="LBFGS", needs_closure=True)


@pytest.mark.parametrize(
    ("changes", "asked", "message"),
    [
        ({"is_step_only": True}, {}, "has make_step"),
        ({"has_dataset": False}, {}, "has no make_dataset"),
        ({"optimizer": None}, {}, "no learning rate"),
        ({}, {"low_rate": 1.0, "high_rate": 5.0}, "too narrow"),
        ({}, {"global_batch_size": 100_000}, "more than the dataset's 50000"),
        ({}, {"global_batch_size": 32, "micro_batch_size": 5}, "does not divide"),
        (
            {"min_micro_batch_size": 2},
            {"global_batch_size": 32, "micro_batch_size": 1},
            "does not train at micro-batch 1",
        ),
        ({"optimizer": LBFGS}, {"micro_batch_size": 16}, "cannot be split"),
    ],
)
def test_what_cannot_be_tested_is_a_usage_error_with_a_next_step(changes, asked, message):
    with pytest.raises(UsageError, match=message) as caught:
        resolve(msgspec.structs.replace(FACTS, **changes), **asked)
    assert caught.value.next_step


def test_a_rate_of_zero_is_no_obstacle():
    facts = msgspec.structs.replace(
        FACTS, optimizer=msgspec.structs.replace(ADAMW, learning_rate=0.0)
    )
    command = resolve(facts, low_rate=1e-6, high_rate=1.0)
    assert (command.low_rate, command.high_rate) == (1e-6, 1.0)
    assert resolve(facts).low_rate < 1e-5
    assert resolve(facts).high_rate > 1.0
