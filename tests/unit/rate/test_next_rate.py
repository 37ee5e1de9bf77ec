import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.rate.search import (
    MOST_STEPS_DOWN,
    MOST_STEPS_UP,
    RATE_STEP,
    choose_next_rate,
)


def walk(proposed, base, *, best=0.0, edge=math.inf):
    """Return the rates tried where the loss is least at `best` and rates above `edge` fail."""
    tried = {}
    while (rate := choose_next_rate(proposed, base, tried)) is not None:
        passed = rate <= edge
        loss = abs(math.log(rate / best)) if best else 0.0
        tried[rate] = (loss,) if passed else None
    return tried


def find_best(tried):
    return min((rate for rate, rank in tried.items() if rank), key=tried.get)


def test_the_proposed_rate_and_both_neighbours_are_tried_where_it_is_the_best():
    rates = [*walk(2.0, 1.0, best=2.0)]
    assert rates == pytest.approx([2.0, 2 * RATE_STEP, 2 / RATE_STEP])


def test_a_rate_that_passes_is_raised_while_the_loss_gets_lower():
    tried = walk(1.0, 1.0, best=2.0)
    assert find_best(tried) == pytest.approx(2.0)
    assert [*tried] == pytest.approx([1, RATE_STEP, 2, 2 * RATE_STEP])


def test_after_a_failure_the_rate_goes_down_until_it_passes_and_once_more():
    rates = [*walk(4.0, 1.0, best=100.0, edge=2.5)]
    assert rates == pytest.approx([4.0, 4 / RATE_STEP, 2.0, 2 / RATE_STEP])


def test_where_nothing_passes_the_base_rate_is_the_last():
    rates = [*walk(4.0, 1.0, edge=0.0)]
    assert rates == pytest.approx([4.0, 4 / RATE_STEP, 2.0, RATE_STEP, 1.0])


def test_a_rate_below_the_base_is_lowered_as_often_as_allowed():
    rates = [*walk(0.5, 1.0, edge=0.0)]
    assert len(rates) == MOST_STEPS_DOWN + 1
    assert rates[-1] == pytest.approx(0.5 / RATE_STEP**MOST_STEPS_DOWN)


positive = st.floats(1e-8, 1e3)


@given(positive, positive, positive, positive)
def test_the_search_ends_on_the_best_rate_within_reach(proposed, base, best, edge):
    tried = walk(proposed, base, best=best, edge=edge)
    rates = [*tried]
    assert rates[0] == proposed
    assert len(set(rates)) == len(rates) <= MOST_STEPS_DOWN + MOST_STEPS_UP + 1
    assert max(rates) <= proposed * RATE_STEP**MOST_STEPS_UP * (1 + 1e-9)
    assert min(rates) >= min(base, proposed / RATE_STEP**MOST_STEPS_DOWN) * (1 - 1e-9)
    passed = [rate for rate in rates if tried[rate]]
    failed = [rate for rate in rates if not tried[rate]]
    assert all(rate < min(failed) for rate in passed if failed)
    if passed:
        reachable = min(max(best, min(rates)), max(passed))
        assert abs(math.log(find_best(tried) / reachable)) <= math.log(RATE_STEP) + 1e-9
