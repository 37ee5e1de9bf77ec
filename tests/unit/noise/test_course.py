"""The average of the noise scale, its trend, and when a trajectory may end."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.noise.course import (
    average_over_progress,
    explain_enough,
    fit_trend,
    is_known_within,
)
from advisor.noise.data import NoiseConclusion, NoisePoint
from advisor.statistics import Estimate

STEPS = [0, 80, 160, 240, 320, 400]


def known(point, factor=1.5):
    return Estimate(point, point / factor, point * factor)


def along(points, factor=1.5):
    return [known(point, factor) for point in points]


def trend_of(steps, points):
    return fit_trend(list(zip(steps, points, strict=True)))


def test_an_exponential_rise_is_found_with_its_factor():
    scales = [100.0 * 8.0 ** (step / 400) for step in STEPS]
    trend = trend_of(STEPS, along(scales))
    assert trend.direction == "rose"
    assert trend.factor.point == pytest.approx(8.0)
    assert trend.factor.low < 8.0 < trend.factor.high
    assert (trend.from_step, trend.to_step) == (0, 400)


def test_a_fall_is_a_fall():
    assert trend_of(STEPS, along([90, 60, 40, 30, 20, 10])).direction == "fell"


def test_precise_equal_points_are_flat():
    assert trend_of(STEPS, along([50.0] * 6, factor=1.1)).direction == "flat"


def test_imprecise_equal_points_are_unclear():
    assert trend_of(STEPS, along([50.0] * 6, factor=3.0)).direction == "unclear"


def test_points_that_scatter_more_than_their_intervals_widen_the_trend():
    calm = trend_of(STEPS, along([10, 11, 12, 13, 14, 15], factor=1.05))
    wild = trend_of(STEPS, along([10, 30, 5, 40, 6, 15], factor=1.05))
    assert calm.direction == "rose"
    assert wild.direction == "unclear"


def test_points_without_both_ends_do_not_count():
    points = [known(10.0), Estimate(None, 5.0, None), Estimate(40.0, -1.0, 90.0), known(40.0)]
    trend = trend_of([0, 10, 20, 30], points)
    assert trend.factor.point == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("steps", "points"),
    [
        ([0], [known(5.0)]),
        ([0, 1], [known(5.0), Estimate(5.0, 1.0, None)]),
        ([3, 3], [known(5.0), known(6.0)]),
        ([0, 1], [Estimate(5.0, 5.0, 5.0), known(5.0)]),
        ([], []),
    ],
)
def test_one_point_has_no_trend(steps, points):
    assert trend_of(steps, points) is None


def test_the_trend_holds_the_truth_in_about_95_percent():
    generator, held = np.random.default_rng(0), 0
    for _ in range(400):
        logs = np.log(np.linspace(1.0, 1.0, 6)) + 0.25 * generator.standard_normal(6)
        # A point's interval is Student's with 15 degrees of freedom on an error of 0.25.
        spread = 0.25 * math.sqrt(generator.chisquare(15) / 15)
        factor = math.exp(2.131 * spread)
        trend = trend_of(STEPS, [known(math.exp(log), factor) for log in logs])
        held += trend.factor.low <= 1.0 <= trend.factor.high
    assert 0.92 <= held / 400 <= 0.995


@given(points=st.lists(st.floats(1.0, 1e6), min_size=2, max_size=6), scale=st.floats(1e-3, 1e3))
def test_the_unit_of_the_noise_scale_does_not_matter(points, scale):
    one = trend_of(STEPS[: len(points)], along(points))
    other = trend_of(STEPS[: len(points)], along([point * scale for point in points]))
    assert other.factor.point == pytest.approx(one.factor.point, rel=1e-6)


def settled(points, average, *, steps=STEPS, settling=None):
    noise = NoiseConclusion(
        status="estimated",
        reason="",
        noise_scale=average,
        points=tuple(
            NoisePoint(
                at_step=step,
                loss=None,
                samples=1000,
                noise_scale=scale,
                preconditioned_noise_scale=None,
                gradient_sqnorm=1.0,
                gradient_cov_trace=1.0,
            )
            for step, scale in zip(steps, points, strict=False)
        ),
        trend=trend_of(steps[: len(points)], points),
    )
    return explain_enough(noise, settling)


def test_a_steady_and_known_noise_scale_ends_the_trajectory():
    assert "steady" in settled(along([50, 55, 48, 52], 2.0), known(51.0, 1.4))


@pytest.mark.parametrize(
    ("points", "average"),
    [
        (along([50, 55, 48]), known(51.0, 1.4)),  # too few points
        (along([20, 40, 80, 160], 1.3), known(60.0, 1.2)),  # rises
        (along([160, 80, 40, 20], 1.3), known(60.0, 1.2)),  # falls
        (along([50, 60, 75, 90], 3.0), known(65.0, 1.4)),  # its likeliest change is large
        (along([50, 55, 48, 52], 3.0), known(51.0, 1.9)),  # not known well enough
        (along([50, 55, 48, 52]), Estimate(51.0, 40.0, None)),
        (along([50, 55, 48, 52]), None),
        ([Estimate(None, 50.0, None)] * 4, known(51.0, 1.2)),  # no trend
    ],
)
def test_otherwise_it_goes_on(points, average):
    assert settled(points, average) is None


def test_a_noise_scale_beyond_which_the_batch_stays_ends_it_even_as_it_rises():
    rising = along([200, 400, 800, 1600])
    assert "the advised batch" in settled(rising, known(700.0), settling=100.0)
    assert settled(rising, known(700.0), settling=150.0) is None  # one point may be below
    assert settled(list(reversed(rising)), known(700.0), settling=100.0) is None  # it falls


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (Estimate(10.0, 8.0, 13.0), True),
        (Estimate(10.0, 5.0, 13.0), False),
        (Estimate(10.0, 8.0, 17.0), False),
        (Estimate(10.0, -1.0, 13.0), False),
        (Estimate(10.0, 8.0, None), False),
        (Estimate(None, 8.0, None), False),
        (Estimate(10.0, None, 13.0), False),
    ],
)
def test_known_within_a_factor_is_about_both_ends(estimate, expected):
    assert is_known_within(estimate, 1.6) is expected


# The average

#: So large a batch that each step makes the progress of an endless one: the plain step-average.
ENDLESS = 10**30


def average_steps(steps, estimates):
    return average_over_progress(list(zip(steps, estimates, strict=True)), batch_size=ENDLESS)


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
    estimate = average_over_progress([(0, around(10.0)), (1, around(90.0))], batch_size=10)
    assert estimate.point == pytest.approx((10.0 / 2 + 90.0 / 10) / (1 / 2 + 1 / 10))


@given(st.floats(1.0, 1e4), st.integers(1, 10_000))
def test_a_constant_noise_scale_is_its_own_average_at_any_batch(value, batch_size):
    estimate = average_over_progress(
        [(step, around(value)) for step in (0, 3, 9)], batch_size=batch_size
    )
    assert estimate.point == pytest.approx(value)
