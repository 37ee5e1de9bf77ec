"""What a verification trains of a run of examples/digits.py."""

import msgspec
import pytest

from advisor.advice.plan import ADVICE
from advisor.engine.record import Conclusions
from advisor.errors import InconclusiveError, UsageError
from advisor.training.data import WorkloadSpec
from advisor.verify.data import VERIFICATION, Origin, VerifySpec
from advisor.verify.tasks import Plan
from tests.unit.doubles import Notes
from tests.unit.verify.advised_digits import EXAMPLE, build_run
from tests.unit.verify.verified_branches import make_branch

TRAINED = Origin(model_sha256="0")
SAVED = Origin(model_sha256="0", checkpoint="a.pt", checkpoint_sha256="1")


def make_plan(origin=TRAINED, *, record=None, known=None, **asked):
    """The plan, and the notes that its making left."""
    conclusions, notes = Conclusions(record or build_run()), Notes()
    spec = VerifySpec(**{"target": str(EXAMPLE), "samples": 1280, "seeds": 2, **asked})
    workload = WorkloadSpec(target=str(EXAMPLE), device="cpu")
    facts = known or conclusions.record.workload
    advice = conclusions.of(ADVICE)
    return Plan(conclusions, advice, facts, spec, workload, notes, origin), notes.notes


def make_task(origin, **facts):
    plan, _ = make_plan(origin, record=build_run(**facts))
    return plan.make_task(plan.list_pending(), 60.0), plan.verification


def train(plan, **law):
    """Add every branch that is pending, as it ends under a law of known truth."""
    for task in plan.list_pending():
        size = task.micro_batch_size * task.gradient_accumulation_steps
        plan.add(
            make_branch(
                size,
                task.seeds[0],
                micro=task.micro_batch_size,
                accumulation=task.gradient_accumulation_steps,
                rate=task.learning_rate,
                **law,
            )
        )


def list_batches(plan):
    return [
        (task.seeds[0], task.micro_batch_size * task.gradient_accumulation_steps)
        for task in plan.list_pending()
    ]


def test_the_worker_is_told_where_to_start_and_how_many_steps_fill_the_state():
    task, verification = make_task(SAVED)
    assert task.checkpoint == verification.checkpoint == "a.pt"
    assert verification.checkpoint_sha256 == "1"
    assert (verification.trunk_steps, verification.state_steps) == (0, 100)
    assert task.trunk.samples == 100 * 32
    task, verification = make_task(TRAINED)
    assert task.checkpoint is None
    assert (verification.trunk_steps, verification.state_steps) == (100, 0)


def test_the_sharpness_takes_micro_batches_that_fit_differentiated_twice():
    """At most 128 samples were seen to fit, and a gradient's graph takes four times as much."""
    task, verification = make_task(TRAINED)
    assert verification.evaluation_batch_size == 64
    assert task.sharpness_batch_size == 32
    task, _ = make_task(TRAINED, min_micro_batch_size=33, base_batch_size=64)
    assert task.sharpness_batch_size is None


def test_branches_come_seed_by_seed_at_batches_around_the_recommended_one():
    plan, notes = make_plan(samples=12_800)
    assert list_batches(plan) == [
        (seed, size) for seed in (0, 1) for size in (16, 32, 64, 128, 256)
    ]
    assert all(task.samples == 12_800 for task in plan.list_pending())
    assert notes == []


def test_what_is_stored_is_not_trained_again_and_its_batches_stay():
    plan, _ = make_plan(samples=12_800, batches=(32, 192))
    train(plan)
    record = build_run().replacing(VERIFICATION, plan.verification)
    again, _ = make_plan(record=record, samples=12_800, batches=(32, 192))
    assert list_batches(again) == []
    wider, _ = make_plan(record=record, samples=12_800, seeds=None)
    assert (0, 192) not in list_batches(wider)
    assert {size for _, size in list_batches(wider)} == {16, 32, 64, 128, 192, 256}
    assert {seed for seed, size in list_batches(wider) if size == 192} == {2}


def test_a_batch_of_too_few_steps_is_left_out_with_a_note():
    plan, notes = make_plan(samples=1280, batches=(32, 256))
    assert list_batches(plan) == [(seed, size) for seed in (0, 1) for size in (32, 64)]
    assert notes == ["batch 256 is left out: 1280 samples are too few steps"]


def test_a_batch_that_cannot_be_made_is_left_out_with_a_note():
    coupled = msgspec.structs.replace(build_run().workload, loss_reduction="coupled")
    plan, notes = make_plan(known=coupled, samples=12_800, batches=(32, 256))
    assert {size for _, size in list_batches(plan)} == {32, 64}
    assert notes == ["batch 256 is left out: it cannot be made of what fits"]


def test_a_base_batch_that_cannot_be_made_is_a_usage_error():
    big = msgspec.structs.replace(
        build_run().workload, min_micro_batch_size=50, loss_reduction="coupled"
    )
    with pytest.raises(UsageError, match="base batch 32 does not fit and cannot be split"):
        make_plan(known=big)


def test_samples_that_make_no_ten_steps_are_refused_by_who_chose_them():
    with pytest.raises(UsageError, match="100 samples are fewer than 10 steps of batch 64"):
        make_plan(samples=100)
    with pytest.raises(InconclusiveError, match="are fewer than 10 steps of batch 64"):
        make_plan(samples=None, budget_s=0.01)


def test_the_budget_decides_the_samples_in_whole_steps_of_the_largest_batch():
    plan, _ = make_plan(samples=None, budget_s=3600.0)
    assert plan.verification.samples == 100 * 64 // 256 * 256
    short, _ = make_plan(samples=None, budget_s=3.0)
    assert short.verification.samples % 256 == 0
    assert 640 <= short.verification.samples < plan.verification.samples


def test_an_open_end_gets_a_further_batch_and_one_that_the_user_chose_none():
    plan, _ = make_plan(samples=12_800)
    train(plan, noise_scale=1e5)
    assert plan.extend(1e6)
    assert list_batches(plan) == [(0, 512), (1, 512)]
    assert not plan.extend(0.0)
    chosen, _ = make_plan(samples=12_800, batches=(32, 128))
    train(chosen, noise_scale=1e5)
    assert not chosen.extend(1e6)


def test_noise_that_hides_the_answer_gets_more_seeds_where_the_user_named_none():
    plan, _ = make_plan(samples=12_800, seeds=None, batches=(32, 128))
    train(plan, spread=1.0)
    before = len(plan.verification.branches)
    assert plan.extend(1e6)
    assert {seed for seed, _ in list_batches(plan)} == {3, 4}
    named, _ = make_plan(samples=12_800, seeds=3, batches=(32, 128))
    train(named, spread=1.0)
    assert before == len(named.verification.branches)
    assert not named.extend(1e6)


def test_nothing_trained_extends_nothing():
    plan, _ = make_plan()
    assert not plan.extend(1e6)


def test_an_optimizer_without_a_rule_is_verified_as_it_was_advised():
    facts = build_run().workload
    own = msgspec.structs.replace(facts.optimizer, name="Mine", class_names=("Mine",))
    known = msgspec.structs.replace(facts, optimizer=own)
    plan, _ = make_plan(known=known, samples=None, budget_s=60.0)
    assert len({size for _, size in list_batches(plan)}) > 1
