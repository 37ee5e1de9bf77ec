import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.statistics import Estimate, two_sided_t
from advisor.throughput.data import Saturation, ThroughputConclusion
from advisor.throughput.sessions import (
    WANTED_HALF_WIDTH_FRACTION,
    predict_sessions_needed,
    wants_session,
)


def conclude(*, half_width=None, status="saturated", needed=None):
    return ThroughputConclusion(
        points=(),
        half_saturation_batch_size=Estimate(None, None, None),
        fixed_s=None,
        per_sample_s=None,
        optimizer_step_s=None,
        saturation=Saturation(
            batch_size=None, low=None, high=None, status=status, needed_batch_size=needed
        ),
        session_spread_fraction=None,
        half_width_fraction=half_width,
    )


def test_no_time_means_no_session():
    assert not wants_session(conclude(status="inconclusive"), sessions=3, affordable=0)


def test_an_open_end_of_the_curve_is_worth_six_sessions():
    open_end = conclude(status="inconclusive")
    assert wants_session(open_end, sessions=5, affordable=1)
    assert not wants_session(open_end, sessions=6, affordable=100)


def test_one_per_cent_is_enough():
    assert not wants_session(conclude(half_width=0.01), sessions=3, affordable=100)
    assert wants_session(conclude(half_width=0.011), sessions=3, affordable=100)


def test_sessions_that_cannot_get_there_are_not_run():
    far = conclude(half_width=0.05)
    needed = predict_sessions_needed(0.05, 6)
    assert needed is not None
    assert needed > 20
    assert not wants_session(far, sessions=6, affordable=needed - 7)
    assert wants_session(far, sessions=6, affordable=needed - 6)


def test_sizes_that_cannot_be_told_apart_are_worth_six_sessions():
    restless = conclude(half_width=0.026)
    assert wants_session(restless, sessions=5, affordable=1)
    assert not wants_session(restless, sessions=6, affordable=1)
    assert not wants_session(conclude(half_width=0.024), sessions=3, affordable=1)


def test_an_unknown_width_promises_nothing():
    assert predict_sessions_needed(None, 5) is None
    assert predict_sessions_needed(0.02, 1) is None
    assert predict_sessions_needed(1e9, 3) is None


@given(st.floats(1e-4, 0.05), st.integers(2, 12))
def test_the_predicted_number_is_the_least_that_suffices(spread, sessions):
    half_width = two_sided_t(0.95, sessions - 1) * spread / math.sqrt(sessions)
    needed = predict_sessions_needed(half_width, sessions)
    assert needed is not None

    def width(count):
        return two_sided_t(0.95, count - 1) * spread / math.sqrt(count)

    assert width(needed) <= WANTED_HALF_WIDTH_FRACTION * (1 + 1e-9)
    assert needed == sessions or width(needed - 1) > WANTED_HALF_WIDTH_FRACTION


def test_the_prediction_holds_on_simulated_sessions():
    rng = np.random.default_rng(0)
    spread, reached = 0.01, []
    needed = predict_sessions_needed(two_sided_t(0.95, 2) * spread / math.sqrt(3), 3)
    for _ in range(300):
        levels = spread * rng.standard_normal(needed)
        reached.append(two_sided_t(0.95, needed - 1) * levels.std(ddof=1) / math.sqrt(needed))
    assert np.median(reached) == pytest.approx(WANTED_HALF_WIDTH_FRACTION, rel=0.15)
