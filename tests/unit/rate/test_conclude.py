import msgspec
import pytest

from advisor.engine.conclusions import Conclusions
from advisor.rate.conclude import LEARNING_RATE, LR_RANGE, needs_range, settle_ranged_rate
from advisor.rate.data import OptimizerChanges
from advisor.rate.range_test import conclude_lr_range
from tests.unit.rate.range_samples import BAD, DEFAULT, UNTUNED, make_curves, make_range_record
from tests.unit.samples import ADAMW, FACTS, make_branches, make_record, recommend


def advised_batch(facts):
    return recommend(make_record(facts)).global_batch_size


def advise(facts, curves=(), trials=()):
    record = msgspec.structs.replace(make_record(facts, trials=trials), lr_ranges=tuple(curves))
    return recommend(record)


@pytest.mark.parametrize(
    ("facts", "needed"),
    [
        (FACTS, False),
        (UNTUNED, True),
        (DEFAULT, True),
        (msgspec.structs.replace(DEFAULT, base_batch_size=32), True),
        (msgspec.structs.replace(UNTUNED, optimizer=None), False),
        (
            msgspec.structs.replace(
                UNTUNED, optimizer=msgspec.structs.replace(ADAMW, learning_rate=None)
            ),
            False,
        ),
    ],
)
def test_a_range_is_needed_where_no_rate_can_be_scaled(facts, needed):
    assert needs_range(facts) is needed


@pytest.mark.parametrize("facts", [UNTUNED, DEFAULT])
def test_the_suggested_rate_is_advised_once_it_has_been_run(facts):
    size = advised_batch(facts)
    curves = make_curves(size)
    suggested = conclude_lr_range(curves).suggested
    advice = advise(facts, curves, make_branches(size, suggested))
    rate = advice.learning_rate
    assert rate.value == rate.proposed == suggested
    assert rate.rule.startswith(f"range test at batch {size}")
    assert rate.base_value == facts.optimizer.learning_rate
    assert rate.base_batch_size is None
    assert rate.low < rate.value <= rate.high
    assert rate.capped_by is None
    assert advice.optimizer_changes == OptimizerChanges()
    assert f"lr={suggested:.4g}" in advice.snippet
    source = "no make_optimizer" if facts is DEFAULT else "BASE_BATCH_SIZE"
    assert source in rate.reason


def test_no_rate_is_advised_before_it_has_been_run():
    size = advised_batch(UNTUNED)
    rate = advise(UNTUNED, make_curves(size)).learning_rate
    assert rate.value is None
    assert rate.proposed is not None
    assert "no rate is printed that has not been run" in rate.reason


def test_without_a_range_test_the_reason_says_why():
    rate = advise(UNTUNED).learning_rate
    assert rate.value is rate.proposed is None
    assert "not tried before the run ended" in rate.reason
    without = msgspec.structs.replace(UNTUNED, has_dataset=False)
    assert "no make_dataset" in advise(without).learning_rate.reason


def test_curves_at_another_batch_are_no_evidence():
    rate = advise(UNTUNED, make_curves(advised_batch(UNTUNED) * 2)).learning_rate
    assert rate.proposed is None


def test_an_inconclusive_range_test_gives_its_reason():
    rate = advise(UNTUNED, make_curves(advised_batch(UNTUNED), fall=0.0, noise=0.1)).learning_rate
    assert rate.value is rate.proposed is None
    assert "never fell beyond its noise" in rate.reason


def test_a_rate_that_fails_gives_way_to_a_lower_one_that_trains():
    size = advised_batch(UNTUNED)
    curves = make_curves(size)
    suggested = conclude_lr_range(curves).suggested
    lower = suggested / 2**0.5
    trials = [*make_branches(size, suggested, losses=BAD), *make_branches(size, lower)]
    rate = advise(UNTUNED, curves, trials).learning_rate
    assert rate.value == lower
    assert rate.capped_by == "trial"
    assert "diverged" in rate.reason


def test_rates_that_all_fail_leave_none_and_a_warning():
    size = advised_batch(UNTUNED)
    curves = make_curves(size)
    suggested = conclude_lr_range(curves).suggested
    advice = advise(UNTUNED, curves, make_branches(size, suggested, losses=BAD))
    assert advice.learning_rate.value is None
    assert any("Tune the rate by hand" in warning for warning in advice.warnings)


def test_a_trial_cut_short_confirms_nothing_and_says_so():
    size = advised_batch(UNTUNED)
    curves = make_curves(size)
    suggested = conclude_lr_range(curves).suggested
    advice = advise(UNTUNED, curves, make_branches(size, suggested, seeds=2))
    assert advice.learning_rate.value is None
    assert "cut short" in advice.learning_rate.reason
    assert any("Raise --budget" in warning for warning in advice.warnings)


def test_a_lower_rate_cut_short_does_not_hide_what_failed_above_it():
    size = advised_batch(UNTUNED)
    curves = make_curves(size)
    suggested = conclude_lr_range(curves).suggested
    trials = [
        *make_branches(size, suggested, losses=BAD),
        *make_branches(size, suggested / 2**0.5, seeds=1),
    ]
    rate = advise(UNTUNED, curves, trials).learning_rate
    assert rate.value is None
    assert "diverged from 3 of 3" in rate.reason


def test_a_range_test_that_was_asked_for_needs_no_excuse():
    curves = make_curves(32)
    suggested = conclude_lr_range(curves).suggested
    record = make_range_record(lr_ranges=curves, trials=tuple(make_branches(32, suggested)))
    conclusions = Conclusions(record)
    rate = conclusions.of(LEARNING_RATE)
    assert rate.value == conclusions.of(LR_RANGE).suggested == suggested
    assert rate.reason.startswith("trained from 3 fresh starts")


def test_a_record_that_ended_early_has_no_conclusion():
    assert Conclusions(make_range_record(workload=None)).of(LEARNING_RATE) is None
    conclusions = Conclusions(make_range_record())
    assert conclusions.of(LR_RANGE) is None
    assert conclusions.of(LEARNING_RATE).reason == "no curve was run before the end"


def test_settling_never_returns_a_rate_that_was_not_run():
    curves = make_curves(32)
    trials = make_branches(32, 0.123)
    settled = settle_ranged_rate(FACTS, curves, trials, 32, is_asked=True)
    assert settled.learning_rate.value in {None, 0.123}
