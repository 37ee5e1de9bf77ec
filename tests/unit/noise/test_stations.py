"""Where along a run iterates lie."""

import itertools
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.noise.iterates import STATIONS, draw_iterates, plan_edges


def test_each_span_is_as_long_as_all_before():
    assert plan_edges(400, 64) == (0, 13, 25, 50, 100, 200, 400)
    assert plan_edges(400, 6) == (0, 200, 400)


@given(steps=st.integers(1, 5000), iterates=st.integers(-3, 200), seed=st.integers(0, 99))
def test_every_span_has_iterates_of_its_own(steps, iterates, seed):
    edges = plan_edges(steps, iterates)
    assert (edges[0], edges[-1]) == (0, steps)
    assert 1 <= len(edges) - 1 <= STATIONS
    points = draw_iterates(edges, iterates, seed=seed)
    assert list(points) == sorted(set(points))
    assert len(points) <= max(iterates, 3) + STATIONS * 3
    for start, end in itertools.pairwise(edges):
        assert any(start <= point < end for point in points)


def test_where_there_are_enough_every_step_is_one():
    assert draw_iterates(plan_edges(10, 64), 64, seed=1) == tuple(range(10))


@pytest.mark.parametrize("period", [2, 3, 10])
def test_an_oscillation_is_met_in_all_its_phases(period):
    edges = plan_edges(400, 64)
    phases = [
        statistics.fmean(step % period for step in draw_iterates(edges, 64, seed=seed) if step > 50)
        for seed in range(200)
    ]
    assert statistics.fmean(phases) == pytest.approx((period - 1) / 2, rel=0.05)
