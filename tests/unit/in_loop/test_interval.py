"""A step is measured as often as a hundredth of the time affords."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.in_loop.interval import MOST_COST_FRACTION, Interval

SECONDS = st.floats(1e-6, 1e3)


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=1))
def test_what_is_spent_stays_below_the_most(pairs):
    interval = Interval()
    for cost_s, step_s in pairs:
        interval.note(cost_s=cost_s, excess_s=0.0, step_s=step_s)
        assert cost_s <= MOST_COST_FRACTION * interval.every * step_s
    assert interval.cost_fraction <= MOST_COST_FRACTION


def test_one_slow_measurement_and_a_pause_between_steps_do_not_count():
    interval = Interval()
    for cost_s, step_s in ((1.0, 0.1), (0.01, 50.0), (0.01, 0.1)):
        interval.note(cost_s=cost_s, excess_s=0.0, step_s=step_s)
    assert interval.every == 25  # 0.01 s of 0.1 s, by two fifths of a hundredth


def test_what_a_step_takes_longer_counts_where_it_is_more():
    interval = Interval()
    for excess_s in (0.0399, -0.2, 0.0399):
        interval.note(cost_s=0.01, excess_s=excess_s, step_s=0.1)
    assert interval.every == 100


def test_before_anything_is_known_steps_are_far_apart():
    interval = Interval()
    assert interval.cost_fraction is None
    assert interval.every == 100
    interval.note(cost_s=1e-3, excess_s=0.0, step_s=0.0)  # measured right after another one
    assert interval.every == 100


@pytest.mark.parametrize(("every", "first"), [(1, 0), (5, 4)])
def test_a_given_one_stands(every, first):
    interval = Interval(every)
    interval.note(cost_s=1.0, excess_s=0.0, step_s=1.0)
    assert (interval.every, interval.first_steps) == (every, first)
    assert interval.cost_fraction == 1.0 / every
