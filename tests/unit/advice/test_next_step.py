"""What is told while a run goes on, and what to type after it."""

import msgspec

from advisor.advice.plan import ADVICE
from advisor.advice.tell import head_run, tell_so_far
from advisor.engine.record import Conclusions, Failure
from advisor.race.plan import CUT_SHORT, RACE
from advisor.race.tell import brief_race
from tests.unit.samples import (
    FAST,
    FLAT,
    NOISE,
    SLOW,
    make_branches,
    make_memory,
    make_pairs,
    make_probes,
    make_record,
    make_throughput,
    propose,
)


def conclude(others, base_losses=None, **limits):
    trials = make_pairs(others)
    if base_losses is not None:
        trials = make_branches(32, 1.0, base_losses)
    return Conclusions(make_record(trials=trials, probes=make_probes(), **limits))


def test_nothing_is_said_while_the_users_own_pair_alone_was_trained():
    assert tell_so_far(conclude({})) == ""
    assert tell_so_far(Conclusions(make_record())) == ""


def test_so_far_a_winner_is_told_with_its_time():
    conclusions = conclude({(128, 2.0): FAST})
    ratio = conclusions.of(RACE).winner.time_ratio.point
    said = tell_so_far(conclusions)
    assert said == f"so far: batch 128 at rate 2, {ratio:.2f} × the time"
    assert tell_so_far(conclude({(128, 2.0): SLOW})) == "so far: stay with batch 32 at rate 1"


def test_a_pair_that_does_not_train_is_said_so_in_every_place():
    conclusions = conclude({}, FLAT)
    assert head_run(conclusions).remarks == ("It does not train.",)
    status = brief_race(conclusions.of(RACE))
    assert status.state == "inconclusive"
    assert status.text == "at the base rate itself the loss did not fall in 3 of 3 runs"


def test_a_given_batch_of_which_no_rate_was_tried_is_told_so():
    record = make_record(trials=make_branches(32, 1.0), global_batch_size=512)
    advice = propose(record, make_memory(), make_throughput(), NOISE)
    assert advice.learning_rate.value is None
    assert advice.reasons[0] == "Batch 512 was given. No rate was tried at it."


def test_one_start_of_a_script_may_begin_with_a_lucky_batch():
    """Its losses are means over a few batches: what counts is the sum over the starts."""
    lucky = make_branches(32, 1.0, (1.0, 1.1), seeds=1, deviation=0.5)
    others = make_branches(32, 1.0, (2.0, 1.0), seeds=2, first_seed=1, deviation=0.5)
    race = Conclusions(make_record(trials=lucky + others, probes=make_probes())).of(RACE)
    assert race.does_base_train
    flat = make_branches(32, 1.0, (2.0, 1.96), seeds=2, first_seed=1, deviation=0.5)
    race = Conclusions(make_record(trials=lucky + flat, probes=make_probes())).of(RACE)
    assert race.reason == "at the base rate itself the loss did not fall in 1 of 3 runs"
    exact = make_branches(32, 1.0, (1.0, 1.1), seeds=1)
    race = Conclusions(make_record(trials=exact + others[:0], probes=make_probes())).of(RACE)
    assert race.reason == "at the base rate itself the loss did not fall in 1 of 1 runs"


def test_a_trial_that_ended_before_the_own_pair_was_trained_says_what_ended_it():
    record = msgspec.structs.replace(
        make_record(probes=make_probes()),
        failures=(Failure(stage="trial", message="rank 1 died"),),
    )
    conclusions = Conclusions(record)
    race = conclusions.of(RACE)
    assert (race.does_base_train, race.reason) == (None, CUT_SHORT)
    (warning,) = (each for each in conclusions.of(ADVICE).warnings if CUT_SHORT in each)
    assert warning.endswith("What ended it is told with the answer.")
    assert "Trial was cut short: rank 1 died." in head_run(conclusions).remarks
