import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.advice.data import Bounds, Scenario
from advisor.advice.frontier import (
    conclude_frontier,
    count_samples,
    estimate_gradient_bytes,
    predict_all_reduce_s,
)
from advisor.device.catalogue import find_interconnect, list_interconnects
from advisor.device.data import Interconnect
from advisor.errors import UsageError
from tests.unit.samples import FIXED_S, PER_SAMPLE_S, affine, make_candidate, make_facts

LINK = Interconnect(name="link", bytes_per_s=1e9, source="made up")


def conclude(candidates, noise_scale, facts=None, **scenario):
    return conclude_frontier(
        candidates, noise_scale, scenario=Scenario(**scenario), facts=facts or make_facts()
    )


def ratios(point):
    return point.relative_time.ranked, point.relative_cost.ranked


def test_on_one_device_the_fastest_is_the_cheapest_and_lies_at_the_closed_form():
    frontier = conclude(affine(range(1, 400)), 90.0)
    assert frontier.fastest == frontier.balanced == frontier.cheapest
    assert frontier.fastest.global_batch_size == round(math.sqrt(90.0 * 40.0))
    assert ratios(frontier.fastest) == (1.0, 1.0)


def test_the_batch_at_the_noise_scale_takes_twice_the_fewest_of_steps_and_of_samples():
    frontier = conclude(affine([32, 64, 128]), 64.0)
    (marked,) = [point for point in frontier.points if point.is_at_noise_scale]
    assert marked.global_batch_size == 64
    assert (marked.relative_steps, marked.relative_samples) == (2.0, 2.0)


def test_no_batch_stands_for_a_noise_scale_that_is_far_from_all():
    assert not any(p.is_at_noise_scale for p in conclude(affine([32, 64]), 640.0).points)


def test_with_steps_that_cost_nothing_per_sample_the_balanced_batch_is_the_noise_scale():
    # GPUs of one sample each, whose step is as long as any: time is steps, GPU time is samples.
    one = (make_candidate(1, 1, 1.0),)
    counts = (1, 500, 2500, 4000, 5000, 6000, 10_000, 50_000, 10**7)
    frontier = conclude(one, 5000.0, make_facts(dataset_size=None), gpus=counts)
    assert frontier.balanced.gpus == 5000
    assert ratios(frontier.balanced) == pytest.approx((2.0, 2.0), rel=1e-3)
    assert frontier.fastest.gpus == 10**7
    assert frontier.cheapest.gpus == 1


def test_without_a_noise_scale_there_is_a_reason_and_no_figure():
    frontier = conclude(affine([1, 2]), None)
    assert frontier.points == ()
    assert frontier.fastest is frontier.balanced is frontier.cheapest is None
    assert "noise scale is not known" in frontier.reason


def test_several_gpus_lie_between_full_overlap_and_none():
    frontier = conclude(affine([64]), 100.0, gpus=(1, 4), interconnect=LINK)
    one, four = frontier.points
    reduce_s = 2 * 3 / 4 * 4000 / 1e9
    step_s = FIXED_S + 64 * PER_SAMPLE_S
    assert four.step_s.low == pytest.approx(step_s)
    assert four.step_s.high == pytest.approx(step_s + reduce_s)
    assert one.step_s == Bounds(low=step_s, high=step_s)
    worst = four.relative_time.high / one.relative_time.high
    assert worst == pytest.approx((1 + 100 / 256) * (step_s + reduce_s) / (1 + 100 / 64) / step_s)
    assert four.relative_cost.high / four.relative_time.high == pytest.approx(
        4 * one.relative_cost.high / one.relative_time.high
    )


def test_an_exchange_longer_than_the_step_is_what_it_takes_at_the_least():
    slow = Interconnect(name="slow", bytes_per_s=100.0, source="made up")
    (point,) = conclude(affine([64]), 100.0, gpus=(2,), interconnect=slow).points
    assert point.step_s.low == pytest.approx(40.0)


@pytest.mark.parametrize(
    ("facts", "scenario"),
    [(make_facts(), {}), (make_facts(parameter_bytes=None), {"interconnect": LINK})],
)
def test_without_an_exchange_to_count_several_gpus_have_no_upper_bound(facts, scenario):
    _, two = conclude(affine([64]), 100.0, facts, gpus=(1, 2), **scenario).points
    assert two.step_s.high is two.relative_time.high is two.relative_cost.high is None


def test_only_trained_parameters_are_exchanged():
    assert estimate_gradient_bytes(make_facts(trainable_parameter_count=250)) == 1000
    assert estimate_gradient_bytes(make_facts(trainable_parameter_count=None)) == 4000
    assert estimate_gradient_bytes(make_facts(parameter_count=None)) is None


def test_one_gpu_exchanges_nothing():
    assert predict_all_reduce_s(1, 4000, 1e9) == 0.0


def test_batches_beyond_the_dataset_are_left_out_and_short_epochs_are_flagged():
    frontier = conclude(affine([10, 100]), 50.0, make_facts(dataset_size=400), gpus=(1, 8))
    seen = {(p.gpus, p.global_batch_size): p.has_short_epochs for p in frontier.points}
    assert seen == {(1, 10): False, (1, 100): True, (8, 80): True}
    none = conclude(affine([100]), 50.0, make_facts(dataset_size=400), gpus=(8,))
    assert none.points == ()
    assert "8 GPUs" in none.reason


def test_hours_and_money_follow_from_the_stated_length():
    frontier = conclude(
        affine([32]), 96.0, samples=32_000, gpus=(1, 2), price_per_gpu_hour=3.6, interconnect=LINK
    )
    one, two = frontier.points
    # At the base batch itself the stated samples are trained: 1000 steps.
    assert one.training_s.high == pytest.approx(1000 * (FIXED_S + 32 * PER_SAMPLE_S))
    assert one.training_price.high == pytest.approx(one.training_s.high / 1000)
    # E(64)/E(32) = (1 + 64/96)/(1 + 32/96), in steps of twice as many samples.
    assert two.training_s.low == pytest.approx(one.training_s.low * 1.25 / 2)
    assert two.training_price.low == pytest.approx(2 * two.training_s.low / 1000)


@pytest.mark.parametrize("facts", [make_facts(base_batch_size=None), make_facts(dataset_size=None)])
def test_no_absolute_time_without_the_base_batch_or_the_epoch(facts):
    (point,) = conclude(affine([32]), 96.0, facts, epochs=2.0, price_per_gpu_hour=1.0).points
    assert point.training_s is point.training_price is None


def test_epochs_count_the_dataset():
    assert count_samples(Scenario(epochs=2.5), make_facts(dataset_size=100)) == 250
    assert count_samples(Scenario(), make_facts()) is None


curves = st.dictionaries(st.integers(1, 4096), st.floats(1e-4, 10.0), min_size=1, max_size=8).map(
    lambda times: tuple(make_candidate(size, 1, step_s) for size, step_s in sorted(times.items()))
)


@given(
    curves,
    st.floats(0.1, 1e6),
    st.sets(st.integers(1, 64), min_size=1, max_size=4),
    st.floats(1e2, 1e12) | st.none(),
)
def test_the_three_choices_are_on_the_frontier_and_nothing_beats_them(
    candidates, noise_scale, counts, bytes_per_s
):
    link = bytes_per_s and Interconnect(name="", bytes_per_s=bytes_per_s, source="")
    frontier = conclude(candidates, noise_scale, gpus=tuple(counts), interconnect=link)
    assert len(frontier.points) == len(candidates) * len(counts)
    assert frontier.fastest.relative_time.ranked == pytest.approx(1.0)
    assert frontier.cheapest.relative_cost.ranked == pytest.approx(1.0)
    for choice in (frontier.fastest, frontier.balanced, frontier.cheapest):
        assert choice.is_efficient
        assert max(ratios(frontier.balanced)) <= max(ratios(choice))
    for point in frontier.points:
        assert min(ratios(point)) >= 1.0 - 1e-9
        assert (point.relative_steps - 1) * (point.relative_samples - 1) == pytest.approx(1.0)
        if point.step_s.high is not None:
            assert point.step_s.low <= point.step_s.high


@pytest.mark.parametrize(
    ("text", "gb_per_s"),
    [("nvlink", 450.0), ("PCIe4", 31.5), ("ethernet-100g", 12.5), ("7.5", 7.5), ("20GB/s", 20.0)],
)
def test_an_interconnect_is_a_name_or_a_number(text, gb_per_s):
    assert find_interconnect(text).bytes_per_s == pytest.approx(gb_per_s * 1e9)


@pytest.mark.parametrize("text", ["nvlnk4", "0", "-3", "inf", "nan", ""])
def test_an_unknown_interconnect_names_those_that_are_known(text):
    with pytest.raises(UsageError) as caught:
        find_interconnect(text)
    assert "nvlink" in caught.value.next_step


def test_every_interconnect_has_its_source():
    assert all(each.source and each.bytes_per_s > 0 for each in list_interconnects().values())
