import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.noise.trajectory import average_over_progress
from advisor.statistics import Estimate

#: So large a batch that each step makes the progress of an endless one: the plain step-average.
ENDLESS = 10**30


def average_steps(steps, estimates):
    return average_over_progress(steps, estimates, batch_size=ENDLESS)


def around(point, below=1.0, above=1.0):
    return Estimate(point, point - below, point + above)


def test_the_average_is_the_trapezoid_rule():
    steps = [0, 10, 40]
    estimate = average_steps(steps, [around(1.0), around(3.0), around(5.0)])
    assert estimate.point == pytest.approx((10 * 2.0 + 30 * 4.0) / 40)


def test_one_point_is_its_own_average():
    assert average_steps([7], [around(12.0, 2.0, 5.0)]) == around(12.0, 2.0, 5.0)


def test_points_at_one_step_weigh_the_same():
    estimate = average_steps([5, 5], [around(1.0), around(3.0)])
    assert estimate.point == 2.0


def test_errors_of_independent_points_add_as_squares():
    estimate = average_steps([0, 1], [around(10.0, 3.0, 6.0), around(10.0, 4.0, 8.0)])
    assert estimate.point - estimate.low == pytest.approx(2.5)
    assert estimate.high - estimate.point == pytest.approx(5.0)


def test_a_point_without_an_upper_end_leaves_a_lower_bound_that_adds_errors_up():
    open_ended = Estimate(None, 20.0, None)
    estimate = average_steps([0, 1], [around(10.0), open_ended])
    assert estimate == Estimate(None, (9.0 + 20.0) / 2.0, None)


def test_a_lower_bound_keeps_its_point_where_every_point_has_one():
    estimate = average_steps([0, 1], [around(10.0), Estimate(90.0, 20.0, None)])
    assert estimate == Estimate(50.0, 14.5, None)


def test_a_point_without_any_bound_counts_as_zero_from_below():
    estimate = average_steps([0, 1], [around(10.0), Estimate(None, None, None)])
    assert estimate == Estimate(None, 4.5, None)


def test_without_any_lower_end_there_is_no_average():
    assert average_steps([0, 1], [Estimate(3.0, None, None)] * 2) is None


def test_an_open_point_that_hardly_weighs_is_left_out():
    steps = [0, 1, 1000]
    estimates = [Estimate(None, 5.0, None), around(10.0), around(20.0)]
    estimate = average_steps(steps, estimates)
    assert estimate.high is not None
    assert estimate.point == pytest.approx((10.0 * 500 + 20.0 * 499.5) / 999.5)


def test_a_closed_point_counts_however_little_it_weighs():
    estimate = average_steps([0, 1, 1000], [around(1e6), around(10.0), around(20.0)])
    assert estimate.point > 500.0


@given(
    st.lists(
        st.tuples(
            st.integers(1, 50), st.floats(1.0, 1e4), st.floats(0.0, 0.9), st.floats(0.0, 9.0)
        ),
        min_size=1,
        max_size=8,
    )
)
def test_the_interval_holds_the_point_and_stays_within_the_average_of_ends(rows):
    steps = [sum(row[0] for row in rows[: index + 1]) for index in range(len(rows))]
    estimates = [around(point, point * below, point * above) for _, point, below, above in rows]
    estimate = average_steps(steps, estimates)
    lows = average_steps(steps, [around(item.low, 0.0, 0.0) for item in estimates])
    highs = average_steps(steps, [around(item.high, 0.0, 0.0) for item in estimates])
    slack = 1e-9 * math.fabs(estimate.point) + 1e-9
    assert lows.point - slack <= estimate.low <= estimate.point + slack
    assert estimate.point - slack <= estimate.high <= highs.point + slack * 10


def test_steps_count_by_the_progress_they_make():
    # At batch 10, steps at φ = 10 make 1/2 and steps at φ = 90 make 1/10 of an endless batch's.
    estimate = average_over_progress([0, 1], [around(10.0), around(90.0)], batch_size=10)
    assert estimate.point == pytest.approx((10.0 / 2 + 90.0 / 10) / (1 / 2 + 1 / 10))


@given(st.floats(1.0, 1e4), st.integers(1, 10_000))
def test_a_constant_noise_scale_is_its_own_average_at_any_batch(value, batch_size):
    estimate = average_over_progress([0, 3, 9], [around(value)] * 3, batch_size=batch_size)
    assert estimate.point == pytest.approx(value)
