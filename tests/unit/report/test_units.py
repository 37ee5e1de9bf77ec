import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.statistics import Estimate
from advisor.units import (
    count_of,
    format_bytes,
    format_duration,
    format_figure,
    format_interval,
    format_number,
    format_percent,
    format_range,
    format_spread,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.41421, "1.41"),
        (9.996, "10.0"),
        (99.96, "100"),
        (12_345.6, "12,300"),
        (0.42, "0.420"),
        (-3.14159, "-3.14"),
        (1.5e-6, "1.5e-06"),
        (2.5e12, "2.5e+12"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_keep_three_significant_digits(value, text):
    assert format_number(value) == text


@given(st.floats(1e-4, 1e8))
def test_rounding_stays_within_half_a_percent(value):
    assert abs(float(format_number(value).replace(",", "")) - value) <= 0.005 * value


@pytest.mark.parametrize(
    ("value", "text"), [(0.1, "0.1"), (3e-4, "0.0003"), (2.0, "2"), (2e-5, "2e-05"), (100, "100")]
)
def test_rates_lose_their_trailing_zeros(value, text):
    assert format_figure(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (2**20, "1.00 MiB"),
        (9.5 * 2**30, "9.50 GiB"),
    ],
)
def test_sizes_take_the_largest_unit_that_fits(value, text):
    assert format_bytes(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 µs"),
        (2.5e-7, "0.250 µs"),
        (4.2e-5, "42.0 µs"),
        (0.00124, "1.24 ms"),
        (12.34, "12.3 s"),
        (125, "2 min 5 s"),
        (3_780, "1 h 3 min"),
    ],
)
def test_times_take_the_largest_unit_that_fits(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(12_345.0, 12_192.0, 12_400.0), "12,300 ± 153"),
        (Estimate(4_000.0, 3_948.0, 4_010.0), "4,000 ± 52"),
        (Estimate(1.414, 1.39, 1.43), "1.41 ± 0.02"),
        (Estimate(4_000.0, 3_999.9, 4_000.1), "4,000 ± 0.1"),
        (Estimate(5.0, 5.0, 5.0), "5.00 ± 0.00"),
        (Estimate(5.0, None, None), "5.00 (no interval)"),
        (Estimate(99_500.0, 6_400.0, 64_600_000.0), "99,500 (no interval)"),
        (Estimate(113.0, 0.0, 1e14), "113 (no interval)"),
        (Estimate(None, 3.0, None), "≥ 3.00"),
        (Estimate(None, None, None), "not measured"),
        (None, "not measured"),
    ],
)
def test_a_spread_never_invents_a_bound(estimate, text):
    assert format_spread(estimate) == text


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(57.0, 31.0, 120.0), "57.0 (31.0 to 120)"),
        (Estimate(57.0, 31.0, None), "≥ 31.0"),
        (Estimate(57.0, None, 120.0), "57.0 (? to 120)"),
        (Estimate(57.0, None, None), "57.0 (no interval)"),
        (None, "not measured"),
    ],
)
def test_an_unknown_upper_end_is_a_lower_bound(estimate, text):
    assert format_interval(estimate) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(1, 2, "1 to 2"), (1, None, "≥ 1"), (None, 2, "≤ 2"), (None, None, "not measured")],
)
def test_a_range_shows_its_known_ends(low, high, text):
    assert format_range(low, high) == text


def test_counts_agree_with_their_noun():
    assert (count_of(1, "probe"), count_of(1_234, "probe")) == ("1 probe", "1,234 probes")


def test_a_share_that_rounds_to_nothing_has_no_sign():
    assert format_percent(-1e-14, decimals=1) == "0.0 %"
    assert format_percent(-0.031, decimals=1) == "-3.1 %"
