import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.statistics import (
    Estimate,
    estimate_median_over_sessions,
    estimate_median_rate,
    fieller_ratio,
    jackknife_covariance,
    median,
    student_t_quantile,
    two_sided_t,
)

NO_ERROR = ((0.0, 0.0), (0.0, 0.0))
UNIT = ((1.0, 0.0), (0.0, 1.0))
#: Degrees of freedom so many that t is the normal quantile 1.96.
MANY = 1e9


@pytest.mark.parametrize(
    ("probability", "degrees", "value"),
    [(0.975, 15, 2.13145), (0.975, 2, 4.30265), (0.95, 1, 6.31375), (0.5, 7, 0.0)],
)
def test_t_quantiles_agree_with_the_tables(probability, degrees, value):
    assert student_t_quantile(probability, degrees) == pytest.approx(value, abs=1e-5)


def test_the_two_sided_t_leaves_half_of_the_rest_on_each_side():
    assert two_sided_t(0.95, 15) == student_t_quantile(0.975, 15)


@pytest.mark.parametrize(
    ("probability", "degrees"), [(0.0, 3), (1.0, 3), (0.9, 0), (0.9, math.nan)]
)
def test_a_t_quantile_outside_its_range_is_refused(probability, degrees):
    with pytest.raises(ValueError, match="quantile"):
        student_t_quantile(probability, degrees)


def test_the_median_ignores_one_wild_value():
    assert median([1.0, 2.0, 1e9]) == 2.0
    assert median([1, 2, 3, 4]) == 2.5


def test_there_is_no_median_of_nothing():
    with pytest.raises(ValueError, match="no median"):
        median([])


def test_sessions_not_steps_are_the_replicates():
    # A thousand steps that agree within each session leave the interval as wide as 3 sessions do.
    short = estimate_median_over_sessions([[9.0], [10.0], [11.0]])
    long = estimate_median_over_sessions([[9.0] * 1000, [10.0] * 1000, [11.0] * 1000])
    assert short == long
    assert short.point == 10.0
    assert short.high - short.point == pytest.approx(4.30265 / math.sqrt(3), abs=1e-4)
    assert short.point - short.low == pytest.approx(short.high - short.point)


def test_a_wild_step_within_a_session_moves_nothing():
    calm = estimate_median_over_sessions([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    assert estimate_median_over_sessions([[1.0, 1.0, 99.0], [2.0, 2.0, 2.0]]) == calm


def test_one_session_has_no_interval():
    assert estimate_median_over_sessions([[3.0, 4.0, 5.0], []]) == Estimate(4.0, None, None)


def test_no_session_has_no_estimate():
    assert estimate_median_over_sessions([[], []], 0.9) == Estimate(None, None, None, 0.9)


def test_the_interval_over_sessions_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    means = generator.normal(5.0, 1.0, (2000, 4))
    intervals = [estimate_median_over_sessions([[value] for value in row]) for row in means]
    covered = sum(item.low <= 5.0 <= item.high for item in intervals) / len(intervals)
    assert 0.935 < covered < 0.965


def test_rates_that_hardly_agree_have_no_end_below_zero():
    found = estimate_median_rate([100.0, 220.0, 90.0])
    assert found.point == pytest.approx(100.0)
    assert 0.0 < found.low < 90.0
    assert found.high > 220.0
    assert estimate_median_rate([7.0]) == Estimate(pytest.approx(7.0), None, None)
    assert estimate_median_rate([]) == Estimate(None, None, None)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40))
def test_the_jackknife_variance_of_a_mean_is_the_textbook_one(values):
    data = np.array(values)
    leave_one_out = (data.sum() - data) / (len(data) - 1)
    variance = jackknife_covariance(leave_one_out[:, None])
    assert variance.shape == (1, 1)
    assert variance[0, 0] == pytest.approx(data.var(ddof=1) / len(data), rel=1e-6, abs=1e-9)


def test_the_jackknife_sees_that_two_statistics_move_together():
    values = np.random.default_rng(1).normal(size=20)
    covariance = jackknife_covariance(np.stack([values, -2.0 * values], axis=1))
    assert covariance[0, 1] == pytest.approx(-2.0 * covariance[0, 0])
    assert covariance[1, 1] == pytest.approx(4.0 * covariance[0, 0])


@pytest.mark.parametrize("table", [[[1.0, 2.0]], [1.0, 2.0, 3.0]])
def test_the_jackknife_needs_two_rows(table):
    with pytest.raises(ValueError, match="two rows"):
        jackknife_covariance(table)


def test_without_error_the_ratio_is_its_own_interval():
    assert fieller_ratio(6.0, 2.0, NO_ERROR, 15) == Estimate(3.0, 3.0, 3.0)


def test_a_certain_denominator_only_scales_the_interval():
    estimate = fieller_ratio(6.0, 2.0, ((1.0, 0.0), (0.0, 0.0)), 15)
    assert estimate.low == pytest.approx((6.0 - 2.13145) / 2.0, abs=1e-5)
    assert estimate.high == pytest.approx((6.0 + 2.13145) / 2.0, abs=1e-5)


def test_a_numerator_that_may_be_zero_is_not_clamped():
    estimate = fieller_ratio(1.0, 10.0, UNIT, MANY)
    assert estimate.low < 0.0 < estimate.high


@pytest.mark.parametrize("denominator", [1.5, 0.5, 0.0, -0.5, -1.5])
def test_a_denominator_that_may_be_zero_leaves_only_a_lower_bound(denominator):
    estimate = fieller_ratio(30.0, denominator, UNIT, MANY)
    assert estimate.high is None
    # At the bound the numerator is exactly t standard errors away from ρ times the denominator.
    distance = (30.0 - estimate.low * denominator) / math.sqrt(1.0 + estimate.low**2)
    assert distance == pytest.approx(1.959964, abs=1e-5)
    assert estimate.low > 0.0


def test_the_point_is_none_where_the_denominator_is_not_positive():
    assert fieller_ratio(30.0, 0.0, UNIT, MANY).point is None
    assert fieller_ratio(30.0, -1.0, UNIT, MANY).point is None
    assert fieller_ratio(30.0, 0.5, UNIT, MANY).point == 60.0


def test_the_boundary_between_two_roots_and_one_is_continuous():
    t = two_sided_t(0.95, 15)
    inside = fieller_ratio(30.0, t * (1.0 + 1e-9), UNIT, 15)
    boundary = fieller_ratio(30.0, t, UNIT, 15)
    outside = fieller_ratio(30.0, t * (1.0 - 1e-9), UNIT, 15)
    assert inside.low == pytest.approx(outside.low, rel=1e-6)
    assert boundary.low == pytest.approx(outside.low, rel=1e-6)
    assert inside.high > 1e6
    assert outside.high is None
    assert boundary.high is None or boundary.high > 1e6


def test_a_root_at_infinity_is_no_bound():
    # Numerator certain, denominator zero without error, moving with it: only ρ = ∞ solves it.
    assert fieller_ratio(3.0, 0.0, NO_ERROR, 15) == Estimate(None, None, None)


@pytest.mark.parametrize(
    ("numerator", "denominator"), [(1.0, 1.0), (0.1, -0.1), (-30.0, 0.5), (30.0, -10.0)]
)
def test_where_nothing_bounds_the_ratio_no_bound_is_given(numerator, denominator):
    estimate = fieller_ratio(numerator, denominator, UNIT, MANY)
    assert (estimate.low, estimate.high) == (None, None)


@given(
    numerator=st.floats(0.5, 1e3),
    denominator=st.floats(-10.0, 10.0),
    deviation=st.floats(0.01, 10.0),
    correlation=st.floats(-0.9, 0.9),
)
def test_the_point_lies_within_its_interval(numerator, denominator, deviation, correlation):
    cross = correlation * deviation
    estimate = fieller_ratio(numerator, denominator, ((1.0, cross), (cross, deviation**2)), 15)
    if estimate.point is not None:
        slack = 1e-9 * estimate.point
        assert estimate.low is None or estimate.low <= estimate.point + slack
        assert estimate.high is None or estimate.high >= estimate.point - slack


@given(scale=st.floats(1e-6, 1e6), unit=st.floats(1e-6, 1e6))
def test_the_interval_follows_a_change_of_units(scale, unit):
    first = fieller_ratio(30.0, 5.0, ((2.0, 0.5), (0.5, 1.0)), 15)
    second = fieller_ratio(
        30.0 * scale,
        5.0 * unit,
        ((2.0 * scale**2, 0.5 * scale * unit), (0.5 * scale * unit, unit**2)),
        15,
    )
    for one, other in zip(
        (first.point, first.low, first.high), (second.point, second.low, second.high), strict=True
    ):
        assert other == pytest.approx(one * scale / unit, rel=1e-6)


def test_fieller_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(1000):
        pairs = generator.normal((6.0, 1.0), (2.0, 1.2), (16, 2))
        numerator, denominator = pairs.mean(axis=0)
        estimate = fieller_ratio(numerator, denominator, np.cov(pairs.T) / 16, 15)
        above = estimate.low is None or estimate.low <= 6.0
        covered += above and (estimate.high is None or estimate.high >= 6.0)
    assert 0.93 < covered / 1000 < 0.975
