"""The average of the noise scale, its trend, and where that leads."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.noise.course import (
    average_over_progress,
    fit_trend,
    predict_noise_scale,
)
from advisor.noise.data import NoiseConclusion, NoisePoint
from advisor.noise.share import Share, pool_shares, to_noise_scale, to_share
from advisor.statistics import Estimate, two_sided_t

STEPS = [0, 1, 3, 7, 15, 31]


def known(point, factor=1.5):
    return Estimate(point, point / factor, point * factor)


def along(points, factor=1.5):
    return [known(point, factor) for point in points]


def trend_of(steps, points):
    return fit_trend(list(zip(steps, points, strict=True)))


def test_a_power_law_is_found_with_its_factor():
    scales = [100.0 * 8.0 ** (k / 5) for k in range(6)]
    trend = trend_of(STEPS, along(scales))
    assert trend.direction == "rose"
    assert trend.factor.point == pytest.approx(8.0)
    assert trend.factor.low < 8.0 < trend.factor.high
    assert (trend.from_step, trend.to_step) == (0, 31)


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


# The average


def at(step, share, *, span=None):
    return NoisePoint(
        at_step=step,
        loss=None,
        samples=1000,
        noise_scale=to_noise_scale(share, 10.0),
        preconditioned_noise_scale=None,
        gradient_sqnorm=1.0,
        gradient_cov_trace=1.0,
        noise_share=share,
        span_steps=span,
    )


def average(*points, batch_size=10.0):
    return average_over_progress(points, batch_size=batch_size, adapted=False)


def around(share, half=0.1):
    return Share(share, (half / two_sided_t(0.95, 1e6)) ** 2, 1e6)


def share_of(noise_scale):
    return to_share(noise_scale, 10.0)


def test_steps_count_by_the_progress_they_make():
    # At batch 10, steps at φ = 10 make 1/2 and steps at φ = 90 make 1/10 of an endless batch's.
    estimate = average(at(0, around(0.5)), at(1, around(0.9)))
    assert estimate.point == pytest.approx((10.0 / 2 + 90.0 / 10) / (1 / 2 + 1 / 10))


def test_points_count_by_the_trapezoid_rule_or_by_the_steps_they_stand_for():
    shares = [around(0.2), around(0.4), around(0.6)]
    found = average(*(at(step, each) for step, each in zip((0, 10, 40), shares, strict=True)))
    assert share_of(found.point) == pytest.approx((10 * 0.3 + 30 * 0.5) / 40)
    found = average(*(at(3, each, span=n) for n, each in zip((1, 2, 5), shares, strict=True)))
    assert share_of(found.point) == pytest.approx((1 * 0.2 + 2 * 0.4 + 5 * 0.6) / 8)


def test_points_at_one_step_weigh_the_same():
    assert average(at(5, around(0.4)), at(5, around(0.6))).point == pytest.approx(10.0)


def test_one_point_is_its_own_average():
    point = at(7, around(0.5))
    for end in ("point", "low", "high"):
        assert getattr(average(point), end) == pytest.approx(getattr(point.noise_scale, end))


def test_errors_of_independent_points_add_as_squares():
    estimate = average(at(0, around(0.5, 0.06)), at(1, around(0.5, 0.08)))
    assert share_of(estimate.low) == pytest.approx(0.5 - 0.05, rel=1e-3)


def test_a_point_without_an_upper_end_leaves_the_average_one():
    half = at(1, around(0.95, 0.06))
    assert half.noise_scale.high is None
    estimate = average(at(0, around(0.5)), half)
    assert share_of(estimate.high) == pytest.approx(0.725 + math.hypot(0.05, 0.03), rel=1e-3)
    assert average(half).high is None


def test_a_lost_gradient_leaves_nothing_but_a_lower_end():
    lost = at(1, around(1.02, 0.05))
    assert (lost.noise_scale.point, lost.noise_scale.high) == (None, None)
    assert average(lost).low == pytest.approx(10 * 0.97 / 0.03, rel=1e-3)
    assert average(at(1, around(1.2, 0.05))) is None


def test_an_unknown_share_is_about_anything_between_0_and_1():
    estimate = average(at(0, around(0.5, 0.001)), at(1, None))
    assert share_of(estimate.low) == pytest.approx(0.26, abs=0.01)
    assert share_of(estimate.point) == pytest.approx(0.75)
    assert estimate.high is None
    assert average(at(0, None), at(1, None)) is None


@given(st.floats(0.01, 0.99), st.floats(1.0, 1e4), st.lists(st.integers(1, 50), min_size=1))
def test_a_constant_noise_scale_is_its_own_average_at_any_batch(share, batch_size, spans):
    points = [at(k, around(share, 0.0), span=span) for k, span in enumerate(spans)]
    estimate = average(*points, batch_size=batch_size)
    assert estimate.point == pytest.approx(batch_size * share / (1 - share), rel=1e-6)


# Iterates of one span


@pytest.mark.parametrize(("wander", "error"), [(0.1, 0.02), (0.02, 0.05), (0.1, 0.1), (0.0, 0.05)])
@pytest.mark.parametrize("drawn", [2, 4, 20])
def test_the_mean_share_of_a_span_is_held_in_95_percent(wander, error, drawn):
    generator, held = np.random.default_rng(1), 0
    for _ in range(600):
        truths = 0.6 + wander * generator.standard_normal(40)
        seen = truths + error * generator.standard_normal(40)
        spreads = error**2 * generator.chisquare(15, 40) / 15
        shares = [Share(p, v, 15) for p, v in zip(seen[:drawn], spreads, strict=False)]
        scale = to_noise_scale(pool_shares(shares, steps=40), 10.0)
        low, high = share_of(scale.low), 1.0 if scale.high is None else share_of(scale.high)
        held += low <= truths.mean() <= high
    assert 0.92 <= held / 600 <= (0.995 if drawn == 20 else 1.0)


def test_where_every_step_was_seen_only_the_samples_err():
    shares = [Share(0.5 + 0.2 * (-1) ** k, 0.01**2, 15) for k in range(8)]
    assert pool_shares(shares, steps=8).variance == pytest.approx(0.01**2 / 8)
    assert pool_shares(shares, steps=80).variance > 0.05**2
    assert pool_shares(shares).variance == pytest.approx(0.01**2 / 8)


# Beyond the run


def follow(scales, half=1.05, batch_size=32):
    spans = [1, 1, 2, 4, 8, 16]
    return NoiseConclusion(
        status="estimated",
        reason="",
        noise_scale=Estimate(50.0, 45.0, 55.0),
        batch_size=batch_size,
        points=tuple(
            msgspec.structs.replace(at(step, around(0.5), span=span), noise_scale=known(phi, half))
            for step, span, phi in zip(STEPS, spans, scales, strict=True)
        ),
    )


def test_a_constant_noise_scale_stays():
    noise = follow([50.0] * 6)
    found = predict_noise_scale(noise, 32_000)
    assert found.low < 50.0 < found.high
    assert found.point == pytest.approx(50.0, rel=0.01)
    assert predict_noise_scale(noise, 20) == noise.noise_scale


@pytest.mark.parametrize("times", [10, 100])
def test_a_power_law_goes_on(times):
    scales = [5.0, 3.0] + [10.0 * 2.0 ** (0.5 * k) for k in range(4)]
    noise, steps = follow(scales), 32 * times
    at_last = scales[-1] / math.sqrt(32)
    shares = [1 / (1 + 32 / (at_last * math.sqrt(step + 1))) for step in range(32, steps)]
    share = (32 * 50 / 82 + sum(shares)) / steps
    found = predict_noise_scale(noise, steps)
    assert found.point == pytest.approx(32 * share / (1 - share), rel=0.02)
    assert found.low < found.point < found.high
    assert found.point > noise.noise_scale.point


def test_without_a_clear_trend_nothing_is_predicted():
    assert predict_noise_scale(follow([50, 50, 20, 90, 15, 110]), 3200) is None
    few = follow([50.0] * 6)
    assert predict_noise_scale(msgspec.structs.replace(few, points=few.points[:2]), 3200) is None


def test_a_steep_law_through_points_that_lie_near_each_other_still_has_an_end():
    steps, points = (10_000, 10_001, 10_002), along([100.0, 200.0, 400.0], factor=1.05)
    noise = NoiseConclusion(
        status="estimated",
        reason="",
        noise_scale=known(200.0),
        batch_size=32,
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
            for step, scale in zip(steps, points, strict=True)
        ),
    )
    found = predict_noise_scale(noise, 1_000_000)
    assert 200.0 < found.low <= found.point <= found.high < math.inf
