"""Which batches and rates a verification trains."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.advice.data import Expected, Interval, Recommendation
from advisor.rate.data import LearningRate, OptimizerChanges
from advisor.rate.rules import propose_learning_rate
from advisor.training.data import OptimizerFacts, WorkloadFacts
from advisor.verify.branches import (
    choose_batches,
    choose_changes,
    choose_extension,
    choose_rate,
)

SGD = OptimizerFacts(name="SGD", learning_rate=1.0)
ADAMW = OptimizerFacts(
    name="AdamW", learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.01
)
FACTS = WorkloadFacts(
    file="model.py",
    model_name="Net",
    how_model="",
    how_loss="",
    how_optimizer="",
    how_batch="",
    dataset_size=1000,
    min_micro_batch_size=2,
)


def make_advice(size=256, rate=1.3, **changes):
    return Recommendation(
        micro_batch_size=size,
        gradient_accumulation_steps=1,
        data_parallel_size=1,
        global_batch_size=size,
        interval=Interval(low=None, high=None),
        learning_rate=LearningRate(value=rate, rule="", base_value=1.0, base_batch_size=32),
        optimizer_changes=OptimizerChanges(**changes),
        limiting_factor="noise",
        expected=Expected(),
        reasons=(),
        warnings=(),
    )


def rate_at(size, *, value=1.3, noise_scale=150.0, optimizer=SGD, reduction="mean", advised=256):
    facts = msgspec.structs.replace(FACTS, optimizer=optimizer, loss_reduction=reduction)
    return choose_rate(facts, make_advice(advised, value), size, noise_scale=noise_scale)


def test_the_batches_surround_the_recommended_one_within_the_dataset():
    assert choose_batches(make_advice(), FACTS) == (64, 128, 256, 512)
    unbounded = msgspec.structs.replace(FACTS, dataset_size=None)
    assert choose_batches(make_advice(), unbounded)[-1] == 1024
    assert choose_batches(make_advice(4), FACTS) == (2, 4, 8, 16)


def test_asked_batches_replace_the_multiples_but_not_the_recommended_one():
    assert choose_batches(make_advice(), FACTS, (512, 8, 4096)) == (8, 256, 512)


def test_the_rates_go_through_both_pairs_that_were_tried():
    assert rate_at(32) == pytest.approx(1.0)
    assert rate_at(256) == pytest.approx(1.3)


def test_beyond_the_recommended_batch_the_rule_applies_from_it():
    expected = 1.3 * 2 * (150 + 256) / (150 + 512)
    assert rate_at(512) == pytest.approx(expected)


def test_below_the_base_batch_the_rule_applies_from_the_base():
    assert rate_at(16) == pytest.approx(0.5 * (150 + 32) / (150 + 16))


@given(st.sampled_from([8, 32, 64, 128, 256, 1024]))
def test_without_a_cap_the_rate_is_the_rule(size):
    def rule(batch):
        return batch / 32 * (150 + 32) / (150 + batch)

    assert rate_at(size, value=rule(256)) == pytest.approx(rule(size))


def test_an_unknown_noise_scale_takes_the_rule_s_limit_and_a_sum_divides_by_the_batch():
    assert rate_at(64, value=8.0, noise_scale=None) == pytest.approx(2.0)
    assert rate_at(64, value=1.0, noise_scale=None, reduction="sum") == pytest.approx(1.0)


def test_at_the_base_batch_itself_the_rule_applies_from_it():
    assert rate_at(64, value=1.0, noise_scale=math.inf, advised=32) == pytest.approx(2.0)


def test_an_optimizer_without_a_rule_has_the_rates_that_the_run_tried():
    own = OptimizerFacts(name="Rprop", learning_rate=1.0)
    facts = msgspec.structs.replace(FACTS, optimizer=own, base_batch_size=32)
    tried = propose_learning_rate(facts, 256, None).proposed
    assert rate_at(256, optimizer=own, value=tried) == pytest.approx(tried)
    assert rate_at(64, optimizer=own, value=tried) == pytest.approx(math.sqrt(2.0))


def test_a_base_rate_of_zero_scales_to_none():
    advice = make_advice()
    rate = msgspec.structs.replace(advice.learning_rate, base_value=0.0)
    advice = msgspec.structs.replace(advice, learning_rate=rate)
    facts = msgspec.structs.replace(FACTS, optimizer=SGD)
    assert choose_rate(facts, advice, 64, noise_scale=None) is None


def test_an_open_end_asks_for_the_next_batch_until_it_is_too_far():
    sizes = (64, 128, 256)
    assert choose_extension("at_most", sizes, smallest=1, centre=128) == 32
    assert choose_extension("at_least", sizes, smallest=1, centre=128) == 512
    assert choose_extension("measured", sizes, smallest=1, centre=128) is None
    assert choose_extension("at_most", sizes, smallest=64, centre=128) is None
    assert choose_extension("at_most", (2, 4), smallest=1, centre=128) is None
    assert choose_extension("at_least", (8192,), smallest=1, centre=128) is None


def test_other_settings_are_as_advised_and_scaled_elsewhere():
    advice = make_advice(beta2=0.99, weight_decay=0.02)
    assert choose_changes(ADAMW, advice, 256, 1.3).beta2 == 0.99
    scaled = choose_changes(ADAMW, advice, 64, 1.1)
    assert scaled.beta2 == pytest.approx(0.999**2)
    assert choose_changes(ADAMW, advice, 32, 1.0) == OptimizerChanges()
