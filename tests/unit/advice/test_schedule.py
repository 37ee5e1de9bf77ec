import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.advice.schedule import (
    LEAST_GAIN_FRACTION,
    Phase,
    conclude_schedule,
    cut_phases,
    find_split,
    interpolate_step_s,
    plan_doublings,
    predict_time,
)
from advisor.advice.schedule_tell import describe_schedule
from advisor.noise.data import NoiseConclusion, NoisePoint
from advisor.rate.rules import Rule, find_rule
from advisor.statistics import Estimate
from advisor.training.data import OptimizerFacts
from tests.unit.samples import affine, make_candidate

SGD = OptimizerFacts(name="SGD", learning_rate=0.5)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
RULE = Rule("gradient", 64, 0.5)


def make_noise(scales, *, every=100, spread=1.1, batch=32, adapted=None):
    def estimate(scale):
        return (
            scale
            if isinstance(scale, Estimate)
            else Estimate(scale, scale / spread, scale * spread)
        )

    points = tuple(
        NoisePoint(
            at_step=every * index,
            loss=1.0,
            samples=1000,
            noise_scale=estimate(scale),
            preconditioned_noise_scale=None
            if adapted is None or adapted[index] is None
            else estimate(adapted[index]),
            gradient_sqnorm=1.0,
            gradient_cov_trace=1.0,
        )
        for index, scale in enumerate(scales)
    )
    return NoiseConclusion(
        status="estimated",
        reason="",
        noise_scale=estimate(scales[-1]),
        preconditioned_noise_scale=None if adapted is None else estimate(adapted[-1]),
        micro_batch_size=batch // 2,  # of what is measured: a run's own steps are of the batch
        batch_size=batch,
        points=points,
    )


def test_a_noise_scale_that_grows_much_gives_doublings_with_a_gain():
    schedule = conclude_schedule(
        affine(SIZES), make_noise([4, 16, 100, 1000, 8000, 8000]), 64, RULE
    )
    sizes = [item.global_batch_size for item in schedule.items]
    assert len(sizes) > 2
    assert schedule.gain_fraction > LEAST_GAIN_FRACTION
    assert schedule.gain_over_advised_fraction >= schedule.gain_fraction
    assert (schedule.measured_from_step, schedule.measured_to_step) == (0, 500)
    assert schedule.items[0].from_step == 0


def test_a_constant_noise_scale_gives_no_schedule_and_no_gain():
    schedule = conclude_schedule(affine(SIZES), make_noise([90, 90, 90]), 64, RULE)
    assert schedule.items == ()
    assert schedule.gain_fraction == 0.0
    assert schedule.gain_over_advised_fraction == 0.0
    assert "constant" in schedule.reason
    assert "predicted" not in describe_schedule(schedule)


def test_a_gain_below_three_per_cent_is_told_and_not_advised():
    schedule = conclude_schedule(affine(SIZES), make_noise([60, 90, 270, 290]), 64, RULE)
    assert schedule.items == ()
    assert 0.0 <= schedule.gain_fraction < LEAST_GAIN_FRACTION


@pytest.mark.parametrize(
    "noise", [None, make_noise([90]), make_noise([90, Estimate(None, None, None)])]
)
def test_one_point_is_no_trend(noise):
    schedule = conclude_schedule(affine(SIZES), noise, 64, RULE)
    assert schedule.items == ()
    assert schedule.gain_fraction is None
    assert "two points" in schedule.reason


def test_the_optimizers_own_metric_is_followed_from_where_it_exists():
    noise = make_noise([9, 9, 9, 9], adapted=[None, 4, 4000, 8000])
    schedule = conclude_schedule(affine(SIZES), noise, 64, RULE)
    assert schedule.measured_from_step == 100
    assert schedule.items[0].from_step == 0
    assert schedule.items[-1].from_step > 0


def test_the_phases_add_up_to_the_average_of_the_run():
    scales = [10.0, 40.0, 400.0]
    points = [(i * 50, Estimate(s, s / 2, s * 2)) for i, s in enumerate(scales)]
    phases = cut_phases(points, batch_size=32)
    steps = sum(phase.progress_steps for phase in phases)
    mean = sum(p.progress_steps * p.noise_scale for p in phases) / steps
    shares = [scale / (scale + 32) for scale in scales]
    share = (shares[0] + 2 * shares[1] + shares[2]) / 4
    assert mean == pytest.approx(32 * share / (1 - share))


def test_a_phase_without_an_upper_end_works_a_little_above_its_lower_one():
    points = [(0, Estimate(900.0, 30.0, None)), (10, Estimate(900.0, 30.0, None))]
    (phase,) = cut_phases(points, batch_size=30)
    assert (phase.noise_scale, phase.low_noise_scale) == pytest.approx((60.0, 30.0))
    assert phase.progress_steps == pytest.approx(10.0 / 3.0)


def test_a_doubling_waits_until_the_lower_end_is_above_twice_the_batch():
    def course(low):
        phase = Phase(progress_steps=1.0, noise_scale=2000.0, low_noise_scale=low)
        return plan_doublings(affine(SIZES, 1.0, 0.001), (phase,), 64)

    assert course(128.0) == (64,)
    assert course(129.0) == (128,)


def test_the_switch_is_counted_in_the_steps_of_the_scheduled_run():
    # Constant φ = B0 in the first phase: 100 steps at 32 are 50 of an endless batch.
    noise = make_noise([32, 32, 3e5, 3e5], spread=1.0001, batch=32)
    schedule = conclude_schedule(affine(SIZES), noise, 64, RULE)
    first, second = schedule.items[:2]
    size = first.global_batch_size
    assert second.from_samples == pytest.approx(second.from_step * size, abs=size)
    assert second.from_step == pytest.approx(50 * (1 + 32 / size), abs=1)


def test_rates_are_scaled_from_the_pair_that_was_run():
    assert RULE.scale(64, 100.0) == 0.5
    assert RULE.scale(128) == 1.0
    assert RULE._replace(is_summed=True).scale(128) == 0.5
    assert Rule("adam", 64, 0.5, is_summed=True).scale(256) == 1.0


@pytest.mark.parametrize(
    ("optimizer", "rate"), [(SGD, None), (None, 0.5), (OptimizerFacts(name="LBFGS"), 0.5)]
)
def test_no_rate_without_one_that_was_run_or_without_a_rule(optimizer, rate):
    rule, noise = find_rule(optimizer, 64, rate), make_noise([4, 16, 1000, 8000, 8000])
    schedule = conclude_schedule(affine(SIZES), noise, 64, rule)
    assert schedule.items
    assert {item.learning_rate for item in schedule.items} == {None}


curves = st.dictionaries(st.integers(1, 4096), st.floats(1e-4, 10.0), min_size=1, max_size=8).map(
    lambda times: tuple(make_candidate(size, 1, step_s) for size, step_s in sorted(times.items()))
)


@given(
    curves,
    st.lists(st.floats(0.1, 1e6), min_size=2, max_size=7),
    st.floats(1.001, 10.0),
    st.integers(0, 7),
)
def test_schedules_double_never_shrink_stay_feasible_and_never_lose(
    candidates, scales, spread, which
):
    advised = candidates[which % len(candidates)].global_batch_size
    noise = make_noise(scales, spread=spread)
    schedule = conclude_schedule(candidates, noise, advised, Rule("gradient", advised, 0.1))
    assert schedule.gain_fraction >= 0.0
    assert schedule.gain_over_advised_fraction >= schedule.gain_fraction - 1e-9
    assert bool(schedule.items) == (schedule.gain_fraction >= LEAST_GAIN_FRACTION)
    sizes = [item.global_batch_size for item in schedule.items]
    for before, after in itertools.pairwise(sizes):
        ratio = after / before
        assert ratio >= 2
        assert math.log2(ratio).is_integer()
    steps = [item.from_step for item in schedule.items]
    assert steps == sorted(steps)
    for item in schedule.items:
        assert item.global_batch_size <= candidates[-1].global_batch_size
        assert item.micro_batch_size <= candidates[-1].micro_batch_size
        assert item.micro_batch_size * item.gradient_accumulation_steps == item.global_batch_size
        assert item.learning_rate > 0


@given(st.floats(1.0, 1e4), st.floats(1e-6, 1.0), st.floats(1e-7, 1e-2))
def test_the_best_constant_batch_of_one_phase_is_the_closed_form(noise_scale, fixed_s, slope):
    best = math.sqrt(noise_scale * fixed_s / slope)
    sizes = sorted({1, 2**16} | {max(1, min(2**16, round(best * k))) for k in (0.5, 1, 2)})
    phase = Phase(progress_steps=1.0, noise_scale=noise_scale, low_noise_scale=noise_scale)
    curve = affine(sizes, fixed_s, slope)
    times = {size: predict_time(curve, (phase,), (size,)) for size in sizes}
    if 4 <= best <= 2**15:
        nearest = min(sizes, key=lambda size: abs(math.log(size / best)))
        assert times[nearest] <= min(times.values()) * (1 + 1e-9)


def test_between_candidates_a_step_lies_on_the_line_and_beyond_it_is_the_nearest():
    curve = affine([10, 30])
    assert interpolate_step_s(curve, 20) == pytest.approx(0.006)
    assert interpolate_step_s(curve, 30) == interpolate_step_s(curve, 31) == pytest.approx(0.007)
    assert interpolate_step_s(curve, 5) == pytest.approx(0.005)


def test_a_batch_is_split_into_equal_micro_batches_that_fit():
    curve = (
        *affine([10, 30]),
        make_candidate(10, 6, 1.0),
    )
    assert find_split(curve, 60) == (10, 6)
    assert find_split(curve, 20) == (20, 1)
    assert find_split(curve, 50) == (25, 2)
    assert find_split(curve, 35) == (7, 5)


def test_a_batch_that_stays_takes_the_samples_that_the_measured_run_took():
    schedule = conclude_schedule(
        affine((32,)), make_noise([90, 90, 90], every=100, batch=32), 64, RULE
    )
    assert schedule.samples == 200 * 32
