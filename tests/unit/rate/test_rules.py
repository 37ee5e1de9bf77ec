import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.rate.data import OptimizerChanges
from advisor.rate.rules import (
    LEAST_BETA2,
    Rule,
    propose_learning_rate,
    propose_optimizer_changes,
)
from advisor.statistics import Estimate
from advisor.training.data import OptimizerFacts
from tests.unit.samples import FACTS

SGD = OptimizerFacts(name="SGD", learning_rate=1.0, momentum=0.0)
ADAMW = OptimizerFacts(
    name="AdamW", learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.01
)


def propose(optimizer, size, noise, base=32, *, loss_is_sum=False):
    facts = msgspec.structs.replace(
        FACTS,
        optimizer=optimizer,
        base_batch_size=base,
        loss_reduction="sum" if loss_is_sum else "mean",
    )
    return propose_learning_rate(facts, size, noise)


def change(optimizer, size, noise=None, base=32):
    rate = propose(optimizer, size, noise, base).proposed
    own = None if optimizer is None else optimizer.learning_rate
    return propose_optimizer_changes(optimizer, (base, own), (size, rate))


def test_the_digits_example_gives_1_71_at_batch_128():
    rate = propose(SGD, 128, Estimate(39.7, 30.0, 60.0))
    assert rate.proposed == pytest.approx(1.71, abs=0.005)
    assert rate.value is None
    assert "has not been run" in rate.reason
    assert rate.low < rate.proposed < rate.high


def test_sgd_is_linear_below_the_noise_scale_and_flat_above():
    assert propose(SGD, 64, Estimate(1e9, 1e9, 1e9)).proposed == pytest.approx(2.0)
    assert propose(SGD, 10**9, Estimate(32.0, 32.0, 32.0)).proposed == pytest.approx(2.0)


def test_adam_follows_the_root_up_to_the_noise_scale():
    assert propose(ADAMW, 128, Estimate(1e4, 1e4, 1e4)).proposed == pytest.approx(2e-3)
    assert propose(ADAMW, 4096, Estimate(128.0, 128.0, 128.0)).proposed == pytest.approx(2e-3)


def test_the_surge_peaks_at_the_noise_scale_and_is_adams_lower_end():
    def at(size):
        return Rule("adam", 32, 1.0).scale_with_surge(size, 128.0)

    assert max(range(1, 2000), key=at) == 128
    rate = propose(ADAMW, 4096, Estimate(128.0, 128.0, 128.0))
    assert rate.low == pytest.approx(1e-3 * at(4096))


@pytest.mark.parametrize("name", ["RMSprop", "Adagrad", "Lion", "Muon", "SignSGD", "Prodigy"])
def test_the_others_follow_the_root_of_the_ratio(name):
    optimizer = OptimizerFacts(name=name, learning_rate=0.1)
    rate = propose(optimizer, 128, Estimate(1.0, 1.0, 1.0))
    assert rate.proposed == pytest.approx(0.2)
    assert ("heuristic" in rate.rule) == (name not in {"RMSprop", "Adagrad"})


@given(
    st.sampled_from(["SGD", "AdamW", "RMSprop"]),
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.floats(1e-3, 1e9),
    st.floats(1.0, 1e3),
)
def test_the_rate_lies_between_the_base_and_the_linear_rule(name, base, size, scale, factor):
    optimizer = OptimizerFacts(name=name, learning_rate=0.1)
    rate = propose(optimizer, size, Estimate(scale, scale / factor, scale * factor), base)
    ends = sorted([0.1, 0.1 * size / base])
    assert ends[0] * (1 - 1e-9) <= rate.proposed <= ends[1] * (1 + 1e-9)
    assert rate.low <= rate.proposed <= rate.high


@pytest.mark.parametrize(
    ("optimizer", "limit", "named"), [(SGD, 4.0, "η0·κ,"), (ADAMW, 2e-3, "sqrt(κ),")]
)
def test_without_noise_the_limit_of_a_large_noise_scale_is_proposed(optimizer, limit, named):
    rate = propose(optimizer, 128, None)
    assert rate.proposed == pytest.approx(limit)
    assert named in rate.rule
    assert rate.low == pytest.approx(optimizer.learning_rate)


def test_a_lower_bound_proposes_a_little_above_it_and_reaches_up_to_the_limit():
    rate = propose(SGD, 128, Estimate(5e6, 40.0, None))
    assert rate.proposed == pytest.approx(4 * 112 / 208)
    assert rate.low == pytest.approx(4 * 72 / 168)
    assert rate.high == pytest.approx(4.0)


def test_a_noise_scale_of_zero_keeps_the_rate():
    for family in ("gradient", "adam"):
        assert Rule(family, 8, 0.3).scale(800, 0.0) == pytest.approx(0.3)


def test_a_summed_loss_divides_the_ratio_out_for_sgd_alone():
    noise = Estimate(1e12, 1e12, 1e12)
    assert propose(SGD, 128, noise, loss_is_sum=True).proposed == pytest.approx(1.0)
    assert propose(ADAMW, 128, noise, loss_is_sum=True).proposed == pytest.approx(2e-3)


@pytest.mark.parametrize(
    ("optimizer", "base", "words"),
    [
        (None, 32, "make_step"),
        (SGD, None, "--base-batch-size"),
        (OptimizerFacts(name="Rprop"), 32, "no learning rate"),
    ],
)
def test_where_nothing_can_be_scaled_the_reason_says_why(optimizer, base, words):
    rate = propose(optimizer, 64, None, base)
    assert rate.proposed is None
    assert rate.value is None
    assert words in rate.reason


def test_adamw_keeps_its_settings_constant_in_samples():
    changes = change(ADAMW, 128, Estimate(1e6, 1e6, 1e6))
    assert changes.beta2 == pytest.approx(0.999**4)
    assert changes.weight_decay == pytest.approx(0.01 * 4 / 2)
    assert changes.warmup_steps == math.ceil(2 / (1 - 0.999**4))


@given(st.floats(0.0, 0.99999), st.integers(1, 10**6), st.integers(1, 10**6))
def test_beta2_averages_over_as_many_samples_and_is_not_moved_below_its_least(beta2, base, size):
    adam = OptimizerFacts(name="Adam", learning_rate=1e-3, beta1=0.9, beta2=beta2)
    changes = change(adam, size, None, base)
    if changes.beta2 is not None:
        assert min(beta2, LEAST_BETA2) <= changes.beta2 < 1.0
        assert changes.beta2 == pytest.approx(max(beta2 ** (size / base), min(LEAST_BETA2, beta2)))
    assert changes.weight_decay is None


def test_a_smaller_batch_needs_no_warm_up():
    changes = change(ADAMW, 16)
    assert changes.warmup_steps is None
    assert changes.beta2 > 0.999


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize("optimizer", [SGD, OptimizerFacts(name="Adam", learning_rate=0.1), None])
def test_nothing_else_changes_for_other_optimizers(optimizer, size):
    changes = change(optimizer, size)
    assert (changes.beta2, changes.weight_decay, changes.warmup_steps) == (None, None, None)


def test_nothing_changes_at_the_base_batch():
    assert change(ADAMW, 32) == OptimizerChanges()
