"""The largest eigenvalue from products against dense solutions."""

import math
import time

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from advisor.sharpness.measure_eigenvalue import find_largest_eigenvalue


def make_start(matrix):
    return torch.randn(len(matrix), generator=torch.Generator().manual_seed(5)).to(matrix.dtype)


def measure_overlap(matrix):
    start = make_start(matrix)
    top = torch.linalg.eigh(matrix).eigenvectors[:, -1]
    return float((top @ start).abs() / start.norm())


def find(matrix, *, deadline=math.inf, most=100):
    start = make_start(matrix)
    return find_largest_eigenvalue(lambda v: matrix @ v, start, deadline=deadline, most=most)


def make_matrix(values, dtype=torch.float32):
    generator = torch.Generator().manual_seed(9)
    basis, _ = torch.linalg.qr(
        torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)
    )
    return (basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T).to(dtype)


@settings(max_examples=50)
@given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=40), st.floats(1.0, 30.0))
def test_the_largest_eigenvalue_is_found_within_two_per_cent(others, top):
    matrix = make_matrix([top, *others])
    assume(measure_overlap(matrix) > 0.01)  # a start must not be orthogonal to what is sought
    found = find(matrix)
    assert found.converged
    assert found.value == pytest.approx(top, rel=0.02)


@pytest.mark.parametrize("gap", [0.3, 0.1, 0.06, 0.03])
@pytest.mark.parametrize("share", [0.3, 0.05, 0.01])
def test_one_close_below_of_which_the_start_has_more_is_not_taken_for_it(gap, share):
    values = torch.tensor([1.0, 1.0 - gap, *torch.linspace(-0.3, 0.5, 60)])
    start = torch.tensor([share, 1.0, *[0.05] * 60])
    found = find_largest_eigenvalue(lambda v: values * v, start, deadline=math.inf)
    assert found.converged
    assert found.value == pytest.approx(1.0, rel=0.02)


def test_a_larger_negative_eigenvalue_is_not_taken_for_it():
    found = find(make_matrix([-40.0, 3.0, *[0.1] * 60]))
    assert found.converged
    assert found.value == pytest.approx(3.0, rel=0.01)


def test_a_matrix_that_only_curves_down_has_a_negative_one():
    assert find(make_matrix([-5.0, -3.0, -1.0])).value == pytest.approx(-1.0, rel=1e-3)


def test_the_zero_matrix_has_eigenvalue_zero():
    found = find(torch.zeros(4, 4))
    assert (found.value, found.converged, found.products) == (0.0, True, 1)


def test_a_cut_run_never_reports_above_the_truth():
    matrix = make_matrix([1.0 - k / 300 for k in range(300)])
    found = find(matrix, most=4)
    assert not found.converged
    assert found.products == 4
    assert 0.5 < found.value < 1.0


def test_no_time_is_no_value():
    found = find(make_matrix([1.0, 0.5]), deadline=time.perf_counter() - 1.0)
    assert (found.value, found.products, found.converged) == (None, 0, False)


def test_products_of_no_symmetric_matrix_are_refused():
    matrix = torch.randn(30, 30, generator=torch.Generator().manual_seed(1))
    found = find(matrix)
    assert found.value is None
    assert not found.is_symmetric


def test_a_product_that_is_not_finite_is_refused():
    assert not find(torch.full((3, 3), math.nan)).is_symmetric
