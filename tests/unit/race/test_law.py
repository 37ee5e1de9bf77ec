import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.race.law import Law
from advisor.statistics import Estimate
from tests.unit.samples import FIXED_S, PER_SAMPLE_S, affine

SIZES = tuple(2**power for power in range(14))
WAYS = affine(SIZES)
BASE = WAYS[5]


def law(noise_scale, dataset_size=None):
    return Law(noise_scale and Estimate(*3 * [noise_scale]), dataset_size)


scales = st.floats(1e-3, 1e7)
ways = st.sampled_from(WAYS)


@given(ways, ways, scales)
def test_the_law_is_the_closed_form(way, base, noise_scale):
    def take(one):
        return (1.0 + noise_scale / one.global_batch_size) * one.step_s

    found = law(noise_scale).predict_log_ratio(way, base)
    assert found == pytest.approx(math.log(take(way) / take(base)), abs=1e-9)
    assert found == pytest.approx(-law(noise_scale).predict_log_ratio(base, way), abs=1e-9)


@given(ways, scales | st.none())
def test_a_pair_takes_the_time_of_itself(way, noise_scale):
    assert law(noise_scale).predict_log_ratio(way, way) == pytest.approx(0.0)


@given(scales, st.floats(0.0, 8.0))
def test_a_rate_off_the_rule_moves_the_law_as_far_as_the_users_rate_may_be_off(noise_scale, rate):
    at_rule = law(noise_scale).predict_log_ratio(WAYS[7], BASE)
    found = law(noise_scale).predict_log_ratio(WAYS[7], BASE, rate_over_rule=rate) - at_rule
    # Nothing is gained beyond a rate of a quarter of its best, nothing lost beyond a tuned one.
    assert math.log(0.25 * 1.75) - 1e-12 <= found <= math.log(4.0) + 1e-12
    if rate <= 1.0:
        lower = (
            law(noise_scale).predict_log_ratio(WAYS[7], BASE, rate_over_rule=rate / 1.2) - at_rule
        )
        assert lower >= found - 1e-12


def test_without_a_noise_scale_a_batch_saves_the_root_of_its_steps():
    way = WAYS[7]
    expected = math.log(0.5 * way.step_s / BASE.step_s)
    assert law(None).predict_log_ratio(way, BASE) == pytest.approx(expected)


def test_the_whole_dataset_has_no_noise_left():
    assert law(500.0, 1000).count_relative_steps(1000) == 1.0
    assert law(500.0, 1000).count_relative_steps(2000) == 1.0
    assert law(500.0, 1000).count_relative_steps(500) == 1.5
    assert law(500.0).count_relative_steps(500) == 2.0


@given(st.floats(1.0, 1e4))
def test_the_law_chooses_the_closed_form_and_what_is_as_good(noise_scale):
    best = math.sqrt(noise_scale * FIXED_S / PER_SAMPLE_S)
    near = law(noise_scale).choose(WAYS)
    times = {w.global_batch_size: (1 + noise_scale / w.global_batch_size) * w.step_s for w in WAYS}
    least = min(times.values())
    assert {w.global_batch_size for w in near} == {
        size for size, time in times.items() if time <= 1.05 * least
    }
    assert any(0.5 <= w.global_batch_size / best <= 2.0 for w in near)


def test_nothing_is_chosen_without_a_noise_scale_or_a_batch():
    assert law(None).choose(WAYS) == law(100.0).choose(()) == ()


def test_the_table_stands_over_the_base_pair():
    table = law(200.0).tabulate(WAYS, BASE)
    assert table[5].relative_time == pytest.approx(1.0)
    assert table[0].relative_samples == pytest.approx(1.0)
    assert table[9].relative_samples == pytest.approx((1 + 512 / 200) / (1 + 1 / 200))
    assert law(None).tabulate(WAYS, BASE) == law(200.0).tabulate(WAYS, None) == WAYS
