import math

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from advisor.rate.range_test import (
    LAG_RATIO,
    ONE_CYCLE_RATIO,
    LossGuard,
    conclude_lr_range,
    conclude_seed,
    smooth_curve,
)
from tests.unit.rate.range_samples import draw_curve, draw_curves, true_loss


def test_without_noise_the_turning_points_are_those_of_the_curve():
    seed = conclude_seed(draw_curve())
    assert seed.first_loss == pytest.approx(2.3)
    assert seed.lowest_loss == pytest.approx(0.3, abs=0.02)
    assert math.log10(seed.learns_from) == pytest.approx(-3.0 + 0.1 * 2.0, abs=0.1)
    assert -3.0 < math.log10(seed.steepest_at) < -1.0
    assert math.log10(seed.lowest_at) == pytest.approx(-1.0, abs=0.3)
    assert math.log10(seed.diverges_at) == pytest.approx(0.0, abs=0.3)


@given(
    st.integers(0, 10_000),
    st.floats(0.0, 0.3),
    st.floats(-3.5, -2.0),
    st.floats(0.5, 2.0),
    st.floats(0.3, 1.0),
    st.booleans(),
    st.sampled_from([120, 200, 400]),
)
@example(7874, 0.25, -2.0, 1.0, 1.0, False, 120)
@example(4711, 0.25, -2.0, 1.0, 1.0, False, 200)  # noise on the plateau is no rise
def test_the_suggested_rate_learns_and_does_not_diverge(
    seed, noise, onset, width, flat, tails, steps
):
    valley, brink = onset + width, onset + width + flat
    shape = {"onset": onset, "valley": valley, "brink": brink}
    curves = [
        draw_curve(seed=3 * seed + k, noise=noise, tails=tails, steps=steps, **shape)
        for k in range(3)
    ]
    found = conclude_lr_range(curves)
    assert found.status == "found", found.reason
    assert 0.0 < found.low <= found.suggested <= found.high
    place = math.log10(found.suggested)
    assert place < brink + 0.1  # where the truth begins to rise
    fall = 2.3 - true_loss(place, **shape)
    assert fall > 0.5 * 2.0  # of the whole fall
    assert math.log10(found.low) == pytest.approx(onset, abs=0.6 + 0.3 * width)
    assert found.one_cycle_maximum == found.high
    assert found.one_cycle_base == pytest.approx(found.high / ONE_CYCLE_RATIO)


@given(st.integers(0, 3000), st.floats(0.01, 1.0), st.booleans())
def test_a_curve_of_pure_noise_gives_no_rate(seed, noise, tails):
    curves = [draw_curve(seed=3 * seed + k, noise=noise, fall=0.0, tails=tails) for k in range(3)]
    conclusion = conclude_lr_range(curves)
    assert conclusion.status == "inconclusive"
    assert conclusion.suggested is conclusion.low is conclusion.high is None
    assert "never fell" in conclusion.reason


@given(
    st.integers(0, 100),
    st.floats(1e-3, 1e3),
    st.floats(1e-6, 1e6),
    st.floats(-5.0, 5.0),
)
@example(0, 1.0, 1e6, 5.0)
def test_the_answer_scales_with_the_rates_and_ignores_the_unit_of_the_loss(
    seed, unit, rate_unit, shift
):
    curves = [draw_curve(seed=3 * seed + k, noise=0.1) for k in range(3)]
    scaled = [
        msgspec.structs.replace(
            curve,
            rates=tuple(rate_unit * rate for rate in curve.rates),
            losses=tuple(unit * (loss + shift) for loss in curve.losses),
        )
        for curve in curves
    ]
    one, other = conclude_lr_range(curves), conclude_lr_range(scaled)
    assert other.low == pytest.approx(rate_unit * one.low)
    assert other.high == pytest.approx(rate_unit * one.high)
    assert other.suggested == pytest.approx(rate_unit * one.suggested)
    assert other.fall == pytest.approx(unit * one.fall, rel=1e-3)


def test_the_standard_error_of_the_level_is_that_of_repetitions():
    levels, errors = [], []
    for seed in range(200):
        smoothed = smooth_curve(draw_curve(seed=seed, noise=0.2, stop=False, brink=9.0))
        levels.append(smoothed.levels[60:100:10])
        errors.append(smoothed.errors[60:100:10])
    assert np.median(errors, axis=0) == pytest.approx(np.std(levels, axis=0), rel=0.25)


def test_smoothing_does_not_lag_behind_a_straight_fall():
    smoothed = smooth_curve(draw_curve(stop=False, brink=9.0))
    middle = int(np.argmin(np.abs(np.log10(smoothed.rates) + 2.0)))
    place = math.log10(smoothed.rates[middle])
    assert smoothed.levels[middle] == pytest.approx(true_loss(place), abs=1e-6)
    assert smoothed.slopes[middle] == pytest.approx(-1.0 / math.log(10.0), rel=1e-6)


def test_the_blow_up_does_not_pull_the_lowest_point_down():
    steep = [
        msgspec.structs.replace(
            curve,
            losses=tuple(
                1e6 if rate > 1.0 else loss
                for rate, loss in zip(curve.rates, curve.losses, strict=True)
            ),
        )
        for curve in draw_curves(stop=False)
    ]
    assert conclude_lr_range(steep).suggested == pytest.approx(
        conclude_lr_range(draw_curves()).suggested, rel=0.3
    )


def test_half_of_the_lowest_rising_rate_is_the_upper_end():
    curves = [draw_curve(seed=0, brink=0.0), draw_curve(seed=1, brink=0.5)]
    conclusion = conclude_lr_range(curves)
    risen = min(each.diverges_at for each in conclusion.seeds)
    assert conclusion.high == pytest.approx(risen / LAG_RATIO)


def test_a_loss_that_comes_back_after_its_rise_does_not_count():
    curve = draw_curve(stop=False)
    losses = [
        0.01 if rate > 30.0 else loss for rate, loss in zip(curve.rates, curve.losses, strict=True)
    ]
    seed = conclude_seed(msgspec.structs.replace(curve, losses=tuple(losses)))
    assert math.log10(seed.lowest_at) == pytest.approx(-1.0, abs=0.3)
    assert math.log10(seed.diverges_at) == pytest.approx(0.0, abs=0.3)


def test_a_rate_that_never_diverges_leaves_the_upper_end_open():
    conclusion = conclude_lr_range(draw_curves(stop=False, brink=9.0, noise=0.02))
    assert conclusion.status == "found"
    assert conclusion.high is None
    assert conclusion.one_cycle_maximum == conclusion.suggested


def test_a_curve_that_ends_on_a_blow_up_diverges_at_its_last_rate():
    curve = draw_curve(stop=False, brink=9.0)
    cut = msgspec.structs.replace(
        curve,
        rates=curve.rates[:150],
        losses=(*curve.losses[:149], None),
        stopped_by="divergence",
    )
    assert conclude_seed(cut).diverges_at == curve.rates[149]


@pytest.mark.parametrize(
    ("stopped_by", "reason"),
    [
        ("divergence", "in 3 of 3 seeds training diverged within the first steps; give a lower"),
        ("range", "give more --steps"),
        ("budget", "fewer than 2 curves are long enough; raise --budget"),
    ],
)
def test_curves_too_short_to_be_read_say_what_would_make_them_longer(stopped_by, reason):
    curves = [
        msgspec.structs.replace(
            each, rates=each.rates[:8], losses=(*each.losses[:7], None), stopped_by=stopped_by
        )
        for each in draw_curves()
    ]
    conclusion = conclude_lr_range(curves)
    assert (conclusion.status, conclusion.seeds) == ("inconclusive", ())
    assert reason in conclusion.reason


@pytest.mark.parametrize(
    ("curves", "reason"),
    [
        (draw_curves(1), "fewer than 2 curves"),
        (draw_curves(fall=0.0, noise=0.1), "in 3 of 3 seeds the loss never fell"),
        (
            [*draw_curves(2), draw_curve(seed=2, fall=0.0, noise=0.1)],
            "in 1 of 3 seeds the loss never fell",
        ),
        (
            [draw_curve(valley=-2.0, brink=-1.5), draw_curve(seed=1, valley=0.0, brink=0.5)],
            "the seeds disagree",
        ),
        (draw_curves(valley=2.0, brink=3.0), "still falls; give a higher --to"),
        (
            [msgspec.structs.replace(curve, stopped_by="budget") for curve in draw_curves()],
            "the time ended before the range did",
        ),
    ],
)
def test_no_rate_is_suggested_where_the_curves_do_not_tell(curves, reason):
    conclusion = conclude_lr_range(curves)
    assert conclusion.status == "inconclusive"
    assert reason in conclusion.reason
    assert conclusion.suggested is None


def test_a_curve_too_short_to_have_a_plateau_says_nothing():
    curve = draw_curve()
    short = msgspec.structs.replace(curve, rates=curve.rates[:9], losses=curve.losses[:9])
    assert smooth_curve(short) is None
    assert conclude_seed(short) is None


def test_without_a_curve_there_is_no_conclusion():
    assert conclude_lr_range([]) is None


def test_curves_at_another_batch_do_not_count():
    other = [
        msgspec.structs.replace(curve, global_batch_size=64) for curve in draw_curves(brink=-1)
    ]
    assert conclude_lr_range([*other, *draw_curves()]) == conclude_lr_range(draw_curves())


def test_the_fall_is_the_median_of_the_seeds_that_learnt():
    conclusion = conclude_lr_range(
        [draw_curve(fall=fall, seed=seed) for seed, fall in enumerate((1.0, 2.0, 1.5))]
    )
    assert conclusion.fall == pytest.approx(1.5, abs=0.05)
    assert conclude_lr_range(draw_curves(fall=0.0, noise=0.1)).fall == 0.0


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_a_run(loss):
    assert LossGuard().is_beyond(loss)


def test_a_run_ends_at_four_times_a_loss_that_never_fell():
    guard = LossGuard()
    assert not any(guard.is_beyond(2.0) for _ in range(10))
    assert not any(guard.is_beyond(7.9) for _ in range(10))
    assert any(guard.is_beyond(8.1) for _ in range(5))


def test_one_odd_batch_does_not_end_a_run():
    guard = LossGuard()
    assert not any(guard.is_beyond(2.0) for _ in range(10))
    assert not guard.is_beyond(20.0)
    assert not any(guard.is_beyond(2.0) for _ in range(10))


@given(st.floats(-100.0, -0.1))
def test_a_loss_below_zero_does_not_end_a_run_by_itself(level):
    guard = LossGuard()
    assert not any(guard.is_beyond(level + 0.001 * (step % 3)) for step in range(50))
