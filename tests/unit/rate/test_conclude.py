import math

import msgspec
import pytest

from advisor.engine.record import Conclusions
from advisor.rate.conclude import (
    FIRST_TRIAL_SEED,
    LEARNING_RATE,
    LR_RANGE,
    needs_range,
    settle_ranged_rate,
)
from advisor.rate.data import OptimizerChanges
from advisor.rate.range_test import conclude_lr_range
from tests.unit.rate.range_samples import BAD, DEFAULT, UNTUNED, make_curves, make_range_record
from tests.unit.samples import ADAMW, FACTS, FAST, make_branches, make_pairs, make_record, recommend

SIZE = 128


def try_rates(*pairs):
    """Branches of the trials that confirm a range test's rate: of each rate, and how it went."""
    return [
        branch
        for rate, settings in pairs
        for branch in make_branches(SIZE, rate, first_seed=FIRST_TRIAL_SEED, **settings)
    ]


def settle(facts, curves=(), trials=()):
    return settle_ranged_rate(facts, curves, trials, SIZE)


def advise(facts, curves, trials):
    record = msgspec.structs.replace(make_record(facts, trials), lr_ranges=tuple(curves))
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
    curves = make_curves(SIZE)
    suggested = conclude_lr_range(curves).suggested
    advice = advise(facts, curves, try_rates((suggested, {})))
    rate = advice.learning_rate
    assert (advice.basis, advice.global_batch_size) == ("ranged", SIZE)
    assert rate.value == rate.proposed == suggested
    assert rate.rule.startswith(f"range test at batch {SIZE}")
    assert rate.base_value == facts.optimizer.learning_rate
    assert rate.base_batch_size is None
    assert rate.low < rate.value <= rate.high
    assert rate.capped_by is None
    assert advice.optimizer_changes == OptimizerChanges()
    own = facts.optimizer.learning_rate
    setting = f"= {suggested:.4g}" if facts is DEFAULT else f"*= {suggested / own:.4g}"
    assert f'group["lr"] {setting}' in advice.snippet
    source = "no make_optimizer" if facts is DEFAULT else "BASE_BATCH_SIZE"
    assert source in rate.reason


def test_other_pairs_race_against_the_one_that_the_range_test_found():
    curves = make_curves(SIZE)
    suggested = conclude_lr_range(curves).suggested
    found = (SIZE, suggested)
    trials = try_rates((suggested, {})) + make_pairs({(256, 1.4 * suggested): FAST}, found)
    advice = advise(DEFAULT, curves, trials)
    assert (advice.basis, advice.global_batch_size) == ("winner", 256)
    assert advice.learning_rate.value == 1.4 * suggested
    assert advice.expected.is_measured
    assert f"the pair it started from, batch {SIZE} at " in advice.reasons[0]
    # Of Adam's second moment, which averages over as many samples at twice that pair's batch.
    assert advice.optimizer_changes.warmup_steps == math.ceil(2.0 / (1.0 - 0.999**2))


def test_no_rate_is_advised_before_it_has_been_run():
    rate = settle(UNTUNED, make_curves(SIZE))
    assert rate.value is None
    assert rate.proposed is not None
    assert "no rate is printed that has not been run" in rate.reason
    assert advise(UNTUNED, make_curves(SIZE), ()) is None


def test_trials_of_a_race_do_not_confirm_a_range_test():
    curves = make_curves(SIZE)
    suggested = conclude_lr_range(curves).suggested
    assert settle(UNTUNED, curves, make_branches(SIZE, suggested)).value is None


def test_without_a_range_test_the_reason_says_why():
    rate = settle(UNTUNED)
    assert rate.value is rate.proposed is None
    assert "no curve was run before the end" in rate.reason


def test_curves_at_another_batch_are_no_evidence():
    assert settle(UNTUNED, make_curves(2 * SIZE)).proposed is None


def test_an_inconclusive_range_test_gives_its_reason():
    rate = settle(UNTUNED, make_curves(SIZE, fall=0.0, noise=0.1))
    assert rate.value is rate.proposed is None
    assert "never fell beyond its noise" in rate.reason


def test_a_rate_that_fails_gives_way_to_a_lower_one_that_trains():
    curves = make_curves(SIZE)
    suggested = conclude_lr_range(curves).suggested
    lower = suggested / 2**0.5
    rate = settle(UNTUNED, curves, try_rates((suggested, {"losses": BAD}), (lower, {})))
    assert rate.value == lower
    assert rate.capped_by == "trial"
    assert "diverged" in rate.reason


def test_rates_that_all_fail_leave_none():
    curves = make_curves(SIZE)
    suggested = conclude_lr_range(curves).suggested
    trials = try_rates((suggested, {"losses": BAD}))
    rate = settle(UNTUNED, curves, trials)
    assert rate.value is None
    assert "none of the rates tried" in rate.reason
    assert advise(UNTUNED, curves, trials) is None


def test_a_trial_cut_short_confirms_nothing_and_says_so():
    curves = make_curves(SIZE)
    suggested = conclude_lr_range(curves).suggested
    rate = settle(UNTUNED, curves, try_rates((suggested, {"seeds": 2})))
    assert rate.value is None
    assert "cut short" in rate.reason


def test_a_lower_rate_cut_short_does_not_hide_what_failed_above_it():
    curves = make_curves(SIZE)
    suggested = conclude_lr_range(curves).suggested
    trials = try_rates((suggested, {"losses": BAD}), (suggested / 2**0.5, {"seeds": 1}))
    rate = settle(UNTUNED, curves, trials)
    assert rate.value is None
    assert "diverged from 3 of 3" in rate.reason


def test_a_range_test_that_was_asked_for_needs_no_excuse():
    curves = make_curves(32)
    suggested = conclude_lr_range(curves).suggested
    trials = tuple(make_branches(32, suggested, first_seed=FIRST_TRIAL_SEED))
    conclusions = Conclusions(make_range_record(lr_ranges=curves, trials=trials))
    rate = conclusions.of(LEARNING_RATE)
    assert rate.value == conclusions.of(LR_RANGE).suggested == suggested
    assert rate.reason.startswith("trained from 3 fresh starts")


def test_a_record_that_ended_early_has_no_conclusion():
    assert Conclusions(make_range_record(workload=None)).of(LEARNING_RATE) is None
    conclusions = Conclusions(make_range_record())
    assert conclusions.of(LR_RANGE) is None
    assert conclusions.of(LEARNING_RATE).reason == "no curve was run before the end"


def test_settling_never_returns_a_rate_that_was_not_run():
    trials = make_branches(32, 0.123, first_seed=FIRST_TRIAL_SEED)
    assert settle_ranged_rate(FACTS, make_curves(32), trials, 32, is_asked=True).value == 0.123


def test_options_of_another_command_are_named_as_its_own():
    curves = make_curves(SIZE, fall=0.0, noise=0.1)
    for is_asked in (False, True):
        reason = settle_ranged_rate(FACTS, curves, (), SIZE, is_asked=is_asked).reason
        assert "give another range with --from and --to" in reason
        assert reason.endswith(", as options of bsadvisor lr-range") is not is_asked
