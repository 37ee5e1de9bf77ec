import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.advice.candidates import ACCUMULATIONS, build_candidates, make_candidate
from advisor.advice.tradeoff import (
    choose_batch,
    choose_near_optimum,
    predict_relative_time,
    tabulate_tradeoff,
)
from advisor.memory.data import MemoryConclusion
from advisor.noise.data import NEAR_OPTIMUM_FRACTION, get_working_noise_scale
from advisor.statistics import Estimate
from advisor.throughput.data import Saturation, ThroughputConclusion, ThroughputPoint

FIXED_S, PER_SAMPLE_S = 0.004, 0.0001  # half saturation at 40


def affine(sizes, fixed_s=FIXED_S, per_sample_s=PER_SAMPLE_S):
    return tuple(make_candidate(size, 1, fixed_s + per_sample_s * size) for size in sizes)


def throughput(sizes, *, optimizer_s=0.0, spread=None, sessions=3, micro=True):
    def step(size):
        return FIXED_S + PER_SAMPLE_S * size + optimizer_s

    return ThroughputConclusion(
        points=tuple(
            ThroughputPoint(
                micro_batch_size=size,
                samples_per_s=Estimate(size / step(size), None, None),
                step_s=Estimate(
                    step(size),
                    None if spread is None else step(size) / spread.get(size, 1.01),
                    None if spread is None else step(size) * spread.get(size, 1.01),
                ),
                micro_step_s=step(size) - optimizer_s if micro else None,
                sessions=sessions,
            )
            for size in sizes
        ),
        half_saturation_batch_size=Estimate(40.0, None, None),
        fixed_s=FIXED_S,
        per_sample_s=PER_SAMPLE_S,
        optimizer_step_s=optimizer_s,
        saturation=Saturation(batch_size=None, low=None, high=None, status="inconclusive"),
        session_spread_fraction=None,
    )


def memory(largest):
    return MemoryConclusion(
        max_micro_batch_size=largest,
        verified=True,
        limited_by="memory",
        fixed_bytes=None,
        bytes_per_sample=None,
        capacity_bytes=None,
        headroom_bytes=0,
        smallest_failed=None,
        probes=1,
        ooms=0,
    )


@pytest.mark.parametrize("noise_scale", [10.0, 90.0, 1_000.0])
def test_the_optimum_of_the_affine_law_is_the_root_of_noise_scale_and_half_saturation(noise_scale):
    choice = choose_batch(
        affine(range(1, 500)), Estimate(noise_scale, noise_scale / 2, noise_scale * 2)
    )
    assert choice.optimum.global_batch_size == pytest.approx(
        math.sqrt(noise_scale * 40.0), abs=0.51
    )


@given(st.floats(1.0, 10.0), st.floats(1.0, 1e4), st.floats(1e-6, 1.0), st.floats(1e-7, 1e-2))
def test_a_batch_k_times_off_costs_no_more_than_the_closed_form(k, noise_scale, fixed_s, slope):
    best = math.sqrt(noise_scale * fixed_s / slope)

    def time(batch):
        return (1 + noise_scale / batch) * (fixed_s + slope * batch)

    bound = (2 + k + 1 / k) / 4
    assert time(k * best) / time(best) <= bound * (1 + 1e-9)
    assert time(best / k) / time(best) <= bound * (1 + 1e-9)


curves = st.dictionaries(st.integers(1, 4096), st.floats(1e-4, 10.0), min_size=1, max_size=12).map(
    lambda times: tuple(make_candidate(size, 1, step_s) for size, step_s in sorted(times.items()))
)


@given(curves, st.floats(0.1, 1e6), st.floats(1.0, 1e3))
def test_a_larger_noise_scale_never_gives_a_smaller_batch(candidates, noise_scale, factor):
    smaller, larger = (
        choose_batch(candidates, Estimate(scale, scale, scale))
        for scale in (noise_scale, noise_scale * factor)
    )
    assert smaller.chosen.global_batch_size <= larger.chosen.global_batch_size
    assert smaller.interval.high <= larger.interval.high


@given(curves, st.floats(0.1, 1e6), st.floats(1.0, 1e3), st.floats(1.0, 1e3))
def test_the_choice_is_near_the_least_time_and_inside_its_interval(candidates, scale, down, up):
    choice = choose_batch(candidates, Estimate(scale, scale / down, scale * up))
    least = min(predict_relative_time(each, scale) for each in candidates)
    assert predict_relative_time(choice.chosen, scale) <= least * (1 + NEAR_OPTIMUM_FRACTION)
    assert choice.interval.low <= choice.chosen.global_batch_size <= choice.interval.high
    assert choice.chosen.global_batch_size <= choice.optimum.global_batch_size


def test_an_unknown_upper_end_leaves_the_interval_open():
    choice = choose_batch(affine([8, 16, 32, 64, 128, 256]), Estimate(9e9, 20.0, None))
    assert choice.interval.high is None
    assert (
        choice.optimum.global_batch_size
        == choose_batch(
            affine([8, 16, 32, 64, 128, 256]), Estimate(40.0, 40.0, 40.0)
        ).optimum.global_batch_size
    )  # twice the lower end


def test_without_an_upper_end_the_geometric_mean_of_point_and_lower_end_works():
    assert get_working_noise_scale(Estimate(60.0, 20.0, None)) == pytest.approx(1200**0.5)
    assert get_working_noise_scale(Estimate(60.0, 20.0, 90.0)) == 60.0
    assert get_working_noise_scale(Estimate(None, 20.0, None)) == 20.0
    assert get_working_noise_scale(Estimate(60.0, 0.0, None)) is None


def test_a_lower_bound_that_asks_for_the_largest_batch_decides():
    choice = choose_batch(affine([8, 16, 32, 64]), Estimate(None, 1_000.0, None))
    assert choice.chosen.global_batch_size == choice.interval.high == 64


@pytest.mark.parametrize(
    "noise",
    [None, Estimate(None, None, None), Estimate(50.0, None, None), Estimate(0.0, 0.0, 0.0)],
)
def test_without_a_positive_noise_scale_there_is_no_choice(noise):
    assert get_working_noise_scale(noise) is None
    assert choose_batch(affine([1, 2]), noise) is None


def test_a_negative_lower_end_counts_as_zero():
    choice = choose_batch(affine([1, 8, 64]), Estimate(50.0, -3.0, 90.0))
    assert choice.interval.low == 1


def test_an_infinite_noise_scale_counts_the_time_of_a_sample_alone():
    near = choose_near_optimum(affine([100, 400, 800, 8_000]), math.inf)
    assert [each.global_batch_size for each in near] == [800, 8_000]


def test_only_timed_sizes_that_fit_are_candidates():
    candidates = build_candidates(throughput([4, 8, 64]), memory(63), base_batch_size=None)
    assert [each.global_batch_size for each in candidates] == [4, 8]
    assert build_candidates(throughput([]), memory(63), base_batch_size=None) == ()


def test_sizes_whose_sessions_disagree_are_left_out():
    noisy = throughput([8, 12, 16], spread={12: 30.0})
    candidates = build_candidates(noisy, None, base_batch_size=None)
    assert [each.global_batch_size for each in candidates] == [8, 16]
    single = throughput([8, 12, 16], spread={12: 30.0}, sessions=1)
    assert len(build_candidates(single, None, base_batch_size=None)) == 3


def test_far_neighbours_have_the_doublings_between_them_on_a_straight_line():
    candidates = build_candidates(throughput([8, 100]), memory(100), base_batch_size=None)
    assert [each.micro_batch_size for each in candidates] == [8, 16, 32, 64, 100]
    for each in candidates:
        assert each.step_s == pytest.approx(FIXED_S + PER_SAMPLE_S * each.micro_batch_size)


def test_accumulation_is_left_out_where_the_optimizer_step_is_cheap():
    candidates = build_candidates(
        throughput([8, 64], optimizer_s=0.0001), memory(64), base_batch_size=None
    )
    assert {each.gradient_accumulation_steps for each in candidates} == {1}


def test_accumulation_shares_one_optimizer_step():
    candidates = build_candidates(
        throughput([8, 64], optimizer_s=0.02), memory(64), base_batch_size=None
    )
    accumulated = [each for each in candidates if each.gradient_accumulation_steps > 1]
    assert [each.gradient_accumulation_steps for each in accumulated] == list(ACCUMULATIONS)
    assert accumulated[1].step_s == pytest.approx(3 * (FIXED_S + 64 * PER_SAMPLE_S) + 0.02)


@given(st.floats(0.0, 1.0), st.floats(0.1, 1e7), st.integers(1, 32))
def test_the_answer_never_exceeds_the_largest_size_that_fits_times_accumulation(
    optimizer_s, noise_scale, most
):
    candidates = build_candidates(
        throughput([8, 64, 128], optimizer_s=optimizer_s),
        memory(64),
        base_batch_size=None,
        max_accumulation=most,
    )
    choice = choose_batch(candidates, Estimate(noise_scale, noise_scale, noise_scale))
    assert choice.chosen.micro_batch_size <= 64
    assert choice.chosen.gradient_accumulation_steps <= most


def test_accumulation_is_advised_only_beyond_the_largest_micro_batch_and_where_it_gains():
    candidates = build_candidates(
        throughput([8, 64], optimizer_s=0.02), memory(64), base_batch_size=None
    )
    low, high = (choose_batch(candidates, Estimate(x, x, x)).chosen for x in (10.0, 10_000.0))
    assert low.gradient_accumulation_steps == 1
    assert high.gradient_accumulation_steps > 1


def test_a_base_batch_beyond_memory_is_accumulated_for_comparison():
    candidates = build_candidates(throughput([8, 64]), memory(64), base_batch_size=256)
    (base,) = [each for each in candidates if each.global_batch_size == 256]
    assert (base.micro_batch_size, base.gradient_accumulation_steps) == (64, 4)
    untimed = build_candidates(throughput([8, 64], micro=False), memory(64), base_batch_size=128)
    assert untimed[-1].step_s == pytest.approx(2 * (FIXED_S + 64 * PER_SAMPLE_S))


def test_the_dataset_bounds_the_global_batch():
    candidates = build_candidates(
        throughput([8, 64], optimizer_s=0.1),
        memory(64),
        base_batch_size=None,
        max_global_batch_size=200,
    )
    assert candidates[-1].global_batch_size == 192


def test_the_table_is_relative_to_the_best_and_to_the_smallest():
    rows = tabulate_tradeoff(affine([20, 40, 80]), 40.0)
    assert [row.relative_time for row in rows] == pytest.approx([1.125, 1.0, 1.125])
    assert [row.relative_samples for row in rows] == pytest.approx([1.0, 2 / 1.5, 3 / 1.5])


def test_without_noise_the_table_holds_step_times_alone():
    (row,) = tabulate_tradeoff(affine([20]), None)
    assert (row.relative_time, row.relative_samples) == (None, None)
    assert row.step_s == pytest.approx(0.006)
