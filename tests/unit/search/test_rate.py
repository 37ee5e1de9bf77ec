import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.search.rate import MOST_RATES, choose_next_rate


def walk(proposed, base, largest_passing):
    tried = []
    while (rate := choose_next_rate(proposed, base, tried)) is not None:
        tried.append((rate, rate <= largest_passing))
    return tried


def test_the_proposed_rate_comes_first_and_ends_the_search_if_it_passes():
    assert walk(1.7, 1.0, 2.0) == [(1.7, True)]


def test_each_next_rate_is_lower_by_the_root_of_two_down_to_the_base_rate():
    rates = [rate for rate, _ in walk(4.0, 1.0, 0.0)]
    assert rates == pytest.approx([4.0, 4 / math.sqrt(2), 2.0, math.sqrt(2), 1.0])


def test_a_rate_below_the_base_is_lowered_as_often_as_allowed():
    rates = [rate for rate, _ in walk(0.5, 1.0, 0.0)]
    assert len(rates) == MOST_RATES
    assert rates[-1] == pytest.approx(0.5 / math.sqrt(2) ** (MOST_RATES - 1))


@given(st.floats(1e-8, 1e3), st.floats(1e-8, 1e3), st.floats(0, 1e3))
def test_the_search_ends_and_its_rates_fall(proposed, base, largest_passing):
    tried = walk(proposed, base, largest_passing)
    rates = [rate for rate, _ in tried]
    assert 1 <= len(rates) <= MOST_RATES
    assert rates == sorted(set(rates), reverse=True)
    assert rates[0] == proposed
    assert min(rates) >= min(base, proposed / 2 ** (MOST_RATES / 2))
    assert [passed for _, passed in tried[:-1]] == [False] * (len(tried) - 1)
