"""The trend of the noise scale, and when a trajectory may end."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.noise.course import explain_settled, fit_trend, is_known_within
from advisor.statistics import Estimate

STEPS = [0, 80, 160, 240, 320, 400]


def known(point, factor=1.5):
    return Estimate(point, point / factor, point * factor)


def along(points, factor=1.5):
    return [known(point, factor) for point in points]


def test_an_exponential_rise_is_found_with_its_factor():
    scales = [100.0 * 8.0 ** (step / 400) for step in STEPS]
    trend = fit_trend(STEPS, along(scales))
    assert trend.direction == "rose"
    assert trend.factor.point == pytest.approx(8.0)
    assert trend.factor.low < 8.0 < trend.factor.high
    assert (trend.from_step, trend.to_step) == (0, 400)


def test_a_fall_is_a_fall():
    assert fit_trend(STEPS, along([90, 60, 40, 30, 20, 10])).direction == "fell"


def test_precise_equal_points_are_flat():
    assert fit_trend(STEPS, along([50.0] * 6, factor=1.1)).direction == "flat"


def test_imprecise_equal_points_are_unclear():
    assert fit_trend(STEPS, along([50.0] * 6, factor=3.0)).direction == "unclear"


def test_points_that_scatter_more_than_their_intervals_widen_the_trend():
    calm = fit_trend(STEPS, along([10, 11, 12, 13, 14, 15], factor=1.05))
    wild = fit_trend(STEPS, along([10, 30, 5, 40, 6, 15], factor=1.05))
    assert calm.direction == "rose"
    assert wild.direction == "unclear"


def test_points_without_both_ends_do_not_count():
    points = [known(10.0), Estimate(None, 5.0, None), Estimate(40.0, -1.0, 90.0), known(40.0)]
    trend = fit_trend([0, 10, 20, 30], points)
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
    assert fit_trend(steps, points) is None


def test_the_trend_holds_the_truth_in_about_95_percent():
    generator, held = np.random.default_rng(0), 0
    for _ in range(400):
        logs = np.log(np.linspace(1.0, 1.0, 6)) + 0.25 * generator.standard_normal(6)
        # A point's interval is Student's with 15 degrees of freedom on an error of 0.25.
        spread = 0.25 * math.sqrt(generator.chisquare(15) / 15)
        factor = math.exp(2.131 * spread)
        trend = fit_trend(STEPS, [known(math.exp(log), factor) for log in logs])
        held += trend.factor.low <= 1.0 <= trend.factor.high
    assert 0.92 <= held / 400 <= 0.995


@given(points=st.lists(st.floats(1.0, 1e6), min_size=2, max_size=6), scale=st.floats(1e-3, 1e3))
def test_the_unit_of_the_noise_scale_does_not_matter(points, scale):
    one = fit_trend(STEPS[: len(points)], along(points))
    other = fit_trend(STEPS[: len(points)], along([point * scale for point in points]))
    assert other.factor.point == pytest.approx(one.factor.point, rel=1e-6)


def settled(points, average, *, steps=STEPS, settling=None):
    trend = fit_trend(steps[: len(points)], points)
    return explain_settled(points, average, trend, settling_noise_scale=settling)


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
