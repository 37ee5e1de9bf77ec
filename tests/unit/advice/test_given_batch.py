"""A batch that the user keeps to."""

import ast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.advice.tell import head_run
from advisor.statistics import Estimate
from advisor.throughput.data import ThroughputFall
from tests.given import GivenConclusions
from tests.unit.samples import (
    FACTS,
    FAST,
    FIXED_S,
    FLAT,
    LIMITED,
    NOISE,
    PER_SAMPLE_S,
    SLOW,
    UNKNOWN_NOISE,
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


def recommend(size, *, facts=FACTS, memory=None, throughput=None, noise=NOISE, soaks=(), trials=()):
    record = make_record(facts, trials, global_batch_size=size)
    record = msgspec.structs.replace(record, soaks=tuple(soaks))
    return propose(record, memory or make_memory(), throughput or make_throughput(), noise)


def test_a_given_batch_that_was_timed_is_one_micro_batch_and_the_free_choice_is_told():
    advice = recommend(512)
    assert advice.basis == "given"
    assert (advice.micro_batch_size, advice.gradient_accumulation_steps) == (512, 1)
    assert advice.limiting_factor == "user"
    assert advice.reasons[0].startswith("Batch 512 was given. ")
    assert "batch 128 would train fastest" in advice.reasons[1]
    assert "batch_size=512" in advice.snippet


def test_the_rate_is_proposed_for_the_given_batch_and_printed_once_it_was_run():
    rate = recommend(512).learning_rate
    assert rate.proposed == pytest.approx(16 * 432 / 912)
    assert rate.value is None
    trials = make_pairs({(512, rate.proposed): FAST})
    assert recommend(512, trials=trials).learning_rate.value == rate.proposed


def test_the_time_of_a_given_batch_is_the_laws_until_it_was_trained():
    time = {b: (1 + 400 / b) * (FIXED_S + PER_SAMPLE_S * b) for b in (32, 512)}
    expected = recommend(512).expected
    assert not expected.is_measured
    # The law counts samples that were not seen yet, of 50,000.
    assert expected.time_ratio.point == pytest.approx(time[512] / time[32], rel=0.01)
    assert expected.time_ratio.high / expected.time_ratio.low == pytest.approx(
        2 ** (4 * 0.98), 0.01
    )
    measured = recommend(512, trials=make_pairs({(512, 8.0): SLOW})).expected
    own, other = ((FIXED_S + PER_SAMPLE_S * size) / size for size in (512, 32))
    assert measured.is_measured
    assert measured.time_ratio.point == pytest.approx(2 * own / other, rel=0.01)


@pytest.mark.parametrize("losses", [FAST, SLOW])
def test_a_given_batch_stands_whether_it_is_faster_or_slower(losses):
    advice = recommend(128, trials=make_pairs({(128, 2.0): losses, (64, 2.0): FAST}))
    assert (advice.global_batch_size, advice.learning_rate.value) == (128, 2.0)
    assert advice.reasons[0].startswith("Batch 128 was given. Batch 128 at 2 took ")


def test_the_best_of_a_given_batchs_rates_is_taken():
    trials = make_pairs({(128, 1.0): SLOW, (128, 2.0): FAST, (128, 4.0): FLAT})
    assert recommend(128, trials=trials).learning_rate.value == 2.0


def test_the_own_batch_as_given_keeps_its_rate_unless_another_is_faster():
    (own, other) = (recommend(32, trials=make_pairs({(32, 2.0): each})) for each in (SLOW, FAST))
    assert (own.learning_rate.value, other.learning_rate.value) == (1.0, 2.0)
    assert own.basis == other.basis == "given"


def test_without_noise_a_given_batch_has_no_expected_time():
    advice = recommend(64, noise=UNKNOWN_NOISE)
    assert advice.global_batch_size == 64
    assert advice.expected.time_ratio is None


@pytest.mark.parametrize("noise", [NOISE, UNKNOWN_NOISE])
def test_a_given_batch_that_does_not_fit_is_split_evenly_into_the_largest_that_divides_it(noise):
    throughput = make_throughput((16, 32, 48, 64), LIMITED, optimizer_s=0.05)
    advice = recommend(96, memory=make_memory(64), throughput=throughput, noise=noise)
    assert (advice.micro_batch_size, advice.gradient_accumulation_steps) == (48, 2)
    (row,) = [each for each in advice.candidates if each.global_batch_size == 96]
    assert row.step_s == pytest.approx(2 * (0.004 + 48 * 0.0001) + 0.05)
    assert "Batch 96 is made of 2 micro-batches of 48, which fit." in advice.reasons
    ast.parse(advice.snippet)


def test_a_given_batch_whose_sessions_disagree_still_stands():
    throughput = make_throughput()
    points = [
        msgspec.structs.replace(p, step_s=msgspec.structs.replace(p.step_s, high=9.0))
        if p.micro_batch_size == 512
        else p
        for p in throughput.points
    ]
    throughput = msgspec.structs.replace(throughput, points=tuple(points))
    assert recommend(512, throughput=throughput).micro_batch_size == 512


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        (97, {}),
        (96, {"loss_reduction": "coupled"}),
        (96, {"dataset_size": 90}),
    ],
)
def test_a_given_batch_that_cannot_be_made_has_no_recommendation(size, changes):
    facts = msgspec.structs.replace(FACTS, **changes)
    assert recommend(size, facts=facts, throughput=make_throughput((16, 32))) is None


def test_a_report_without_a_recommendation_names_the_given_batch():
    record = make_record(probes=make_probes(), global_batch_size=2003)
    derived = derive(record)
    assert derived.recommendation is None
    assert head_run(GivenConclusions(record, derived)).answer == (
        "No advice on training: batch 2,003 was given, and no micro-batch timed makes it up"
    )
    stored = make_record(probes=make_probes(), global_batch_size=64)
    assert derive(stored).recommendation.global_batch_size == 64


def test_a_given_batch_that_failed_its_soak_is_split_or_not_advised():
    soaks = [make_soak(128, "oom", steps=4), make_soak(64)]
    advice = recommend(128, soaks=soaks)
    assert (advice.micro_batch_size, advice.gradient_accumulation_steps) == (64, 2)
    facts = msgspec.structs.replace(FACTS, loss_reduction="coupled")
    assert recommend(128, facts=facts, soaks=soaks) is None


def test_sizes_that_were_not_timed_do_not_matter_to_a_given_batch():
    assert not any("not timed" in each for each in recommend(64, memory=make_memory(4000)).warnings)


@given(st.integers(1, 40_000), st.floats(1.0, 1e6))
def test_the_batch_advised_is_the_one_given_or_none(size, scale):
    advice = recommend(size, noise=make_noise(scale, scale / 2, scale * 2))
    if advice is None:
        assert size % 16
    else:
        assert advice.global_batch_size == size
        assert size in {each.global_batch_size for each in advice.candidates}


def test_a_micro_batch_beyond_the_peak_of_throughput_is_a_warning_with_the_figure():
    fall = ThroughputFall(
        peak_micro_batch_size=256,
        micro_batch_size=1024,
        slower_fraction=Estimate(0.2, 0.15, 0.25),
    )
    falling = msgspec.structs.replace(make_throughput(), fall=fall)
    (warning,) = [w for w in recommend(512, throughput=falling).warnings if "fastest" in w]
    assert warning == (
        "Micro-batch 512 lies beyond the fastest, 256: throughput falls from there, by 20 % at "
        "1,024. Stay at or below 256."
    )
    assert not any("fastest" in each for each in recommend(256, throughput=falling).warnings)
