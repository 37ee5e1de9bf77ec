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
    LIMITED,
    NOISE,
    UNKNOWN_NOISE,
    derive,
    make_branches,
    make_memory,
    make_noise,
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
    assert (advice.micro_batch_size, advice.gradient_accumulation_steps) == (512, 1)
    assert advice.limiting_factor == "user"
    assert advice.reasons[0] == (
        "Batch 512 was given; noise and speed would choose 128. Training is predicted to take "
        "1.42 times as long as there."
    )
    assert "128 is the smallest that does so" in advice.reasons[2]
    assert (advice.interval.low, advice.interval.high) == (128, 256)
    assert "batch_size=512" in advice.snippet


def test_the_rate_is_proposed_for_the_given_batch():
    rate = recommend(512).learning_rate
    assert rate.proposed == pytest.approx(16 * 432 / 912)
    branches = make_branches(32, 1.0) + make_branches(512, rate.proposed)
    assert recommend(512, trials=branches).learning_rate.value == rate.proposed


def test_a_given_batch_that_would_be_chosen_anyway_is_told():
    advice = recommend(128)
    assert advice.reasons[0] == "Batch 128 was given; noise and speed would choose it as well."
    assert advice.limiting_factor == "user"


def test_without_noise_speed_alone_is_named():
    advice = recommend(64, noise=UNKNOWN_NOISE)
    assert advice.reasons[0] == "Batch 64 was given; speed alone would choose 512."
    assert advice.global_batch_size == 64


@pytest.mark.parametrize("noise", [NOISE, UNKNOWN_NOISE])
def test_a_given_batch_that_does_not_fit_is_split_evenly_into_the_largest_that_divides_it(noise):
    throughput = make_throughput((16, 32, 48, 64), LIMITED, optimizer_s=0.05)
    advice = recommend(96, memory=make_memory(64), throughput=throughput, noise=noise)
    assert (advice.micro_batch_size, advice.gradient_accumulation_steps) == (48, 2)
    (row,) = [each for each in advice.candidates if each.global_batch_size == 96]
    assert row.step_s == pytest.approx(2 * (0.004 + 48 * 0.0001) + 0.05)
    assert any("2 micro-batches of 48, the largest size timed" in each for each in advice.reasons)
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
    record = make_record(probes=make_probes(), global_batch_size=97)
    derived = derive(record)
    assert derived.recommendation is None
    assert head_run(GivenConclusions(record, derived)).answer == (
        "No batch size recommended: batch 97 was given, and no micro-batch timed makes it up"
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
        "1024. Stay at or below 256."
    )
    assert not any("fastest" in each for each in recommend(256, throughput=falling).warnings)
