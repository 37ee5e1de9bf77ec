import ast

import msgspec
import pytest

from advisor.race.plan import RACE
from advisor.training.data import OptimizerFacts
from tests.unit.samples import (
    FACTS,
    FAST,
    LIMITED,
    MIB,
    NOISE,
    UNKNOWN_NOISE,
    conclude,
    derive,
    make_memory,
    make_noise,
    make_pairs,
    make_probes,
    make_record,
    make_soak,
    make_throughput,
    propose,
)

#: Batch 128 trains fastest.
TRIALS = make_pairs({(128, 2.0): FAST})


def recommend(*soaks, facts=FACTS, throughput=None, noise=NOISE, trials=TRIALS, **limits):
    record = msgspec.structs.replace(make_record(facts, trials, **limits), soaks=soaks)
    return propose(record, make_memory(), throughput or make_throughput(), noise)


def describe(*soaks, facts):
    """What befell the one other pair."""
    record = msgspec.structs.replace(make_record(facts, TRIALS), soaks=soaks)
    parts = {"memory": make_memory(), "throughput": make_throughput(), "noise": NOISE}
    return conclude(record, **parts).of(RACE).pairs[0].reason


def test_a_soak_that_holds_changes_nothing():
    assert recommend(make_soak(128)) == recommend()


def test_a_micro_batch_that_failed_its_soak_is_split_into_the_same_batch():
    advice = recommend(make_soak(128, "oom", steps=4), make_soak(64))
    assert (advice.micro_batch_size, advice.gradient_accumulation_steps) == (64, 2)
    assert advice.global_batch_size == recommend().global_batch_size
    assert advice.interval == recommend().interval
    assert advice.expected.time_ratio.point > recommend().expected.time_ratio.point
    assert any("made of 2 micro-batches of 64" in each for each in advice.reasons)
    assert advice.warnings[0].startswith("Micro-batch 128 fitted for a few steps")
    ast.parse(advice.snippet)
    (chosen,) = [each for each in advice.candidates if each.global_batch_size == 128]
    assert chosen.micro_batch_size == 64


def test_the_trial_of_the_batch_stands_when_it_is_split():
    advice = recommend(make_soak(128, "oom", steps=4), make_soak(64))
    assert advice.learning_rate.value == 2.0


def test_a_size_that_nobody_timed_gets_its_time_from_its_neighbours():
    throughput = make_throughput((16, 32, 128, 256, 512, 1024))
    advice = recommend(make_soak(128, "oom", steps=4), throughput=throughput)
    assert (advice.micro_batch_size, advice.gradient_accumulation_steps) == (64, 2)
    (chosen,) = [each for each in advice.candidates if each.global_batch_size == 128]
    assert chosen.step_s == pytest.approx(2 * (0.004 + 64 * 0.0001))


def test_only_multiples_are_split_into():
    failed = make_soak(128, "oom", steps=4)
    advice = recommend(failed, batch_multiple=32)
    assert advice.micro_batch_size == 64
    advice = recommend(failed, make_soak(64, "oom", steps=4), batch_multiple=32)
    assert advice.micro_batch_size == 32


def test_a_step_that_cannot_be_split_gets_a_smaller_batch():
    facts = msgspec.structs.replace(FACTS, loss_reduction="coupled")
    before = recommend(facts=facts, noise=UNKNOWN_NOISE)
    failed = make_soak(before.micro_batch_size, "oom", steps=4)
    advice = recommend(failed, facts=facts, noise=UNKNOWN_NOISE)
    assert advice.global_batch_size < before.global_batch_size
    assert advice.gradient_accumulation_steps == 1
    assert "it cannot be made of micro-batches that fit" in describe(failed, facts=facts)


def test_a_size_below_the_failures_that_was_not_soaked_is_said_to_be_untested():
    advice = recommend(*(make_soak(size, "oom", steps=4) for size in (128, 64)))
    assert advice.micro_batch_size == 32
    assert "Micro-batches 128 and 64 ran out of memory" in advice.warnings[0]
    assert "32 was not trained for as long" in advice.warnings[0]


def test_a_leak_is_a_warning_with_its_slope_and_its_end():
    advice = recommend(make_soak(128, slope=MIB))
    assert advice.micro_batch_size == 128
    assert advice.warnings[0].startswith(
        "Memory grows by 1 MiB with each step, which fills the limit after about 960 steps. Check "
    )
    unlimited = msgspec.structs.replace(make_soak(128, slope=MIB), capacity_bytes=None)
    assert recommend(unlimited).warnings[0].startswith("Memory grows by 1 MiB with each step. ")


def test_evaluation_that_takes_more_than_training_is_a_warning():
    advice = recommend(make_soak(128, evaluation_peak_bytes=200 * MIB))
    assert advice.warnings[0] == (
        "Evaluating micro-batch 128 takes 200 MiB, more than the 100 MiB of training. Set a "
        "smaller batch for evaluation."
    )


def test_nothing_is_warned_of_without_a_soak():
    assert recommend().warnings == ()


def test_disturbances_are_warnings():
    memory = msgspec.structs.replace(make_memory(), disturbances=("A fact. Set something.",))
    advice = propose(make_record(trials=TRIALS), memory, make_throughput(), NOISE)
    assert advice.warnings == ("A fact. Set something.",)


def test_the_soak_is_derived_from_the_record():
    record = msgspec.structs.replace(make_record(probes=make_probes()), soaks=(make_soak(128),))
    assert derive(record).soak.holds is True
    assert derive(make_record(probes=make_probes())).soak is None


def test_accumulation_of_its_own_is_split_further():
    throughput = make_throughput((16, 32, 64), LIMITED, optimizer_s=0.05)
    facts = msgspec.structs.replace(FACTS, optimizer=OptimizerFacts(name="SGD", learning_rate=1.0))
    known = {"facts": facts, "throughput": throughput, "noise": make_noise(1e5, 9e4, 2e5)}
    known["trials"] = make_pairs({(1536, 2.0): FAST})
    before = recommend(**known)
    assert (before.micro_batch_size, before.gradient_accumulation_steps) == (64, 24)
    advice = recommend(make_soak(64, "oom", steps=4), **known)
    assert (advice.micro_batch_size, advice.gradient_accumulation_steps) == (48, 32)
