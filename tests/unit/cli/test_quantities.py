import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from advisor.cli.quantities import (
    BYTES_PER_UNIT,
    parse_duration,
    parse_memory_limit,
    parse_settings,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("1024", 1024),
        ("512MiB", 512 * 2**20),
        (" 10 gib ", 10 * 2**30),
        ("1.5GiB", 3 * 2**29),
        (".5kb", 500),
        ("2TB", 2 * 10**12),
        ("7B", 7),
    ],
)
def test_sizes_are_read_as_people_write_them(text, size_bytes):
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-1", "10 parsecs", "1e9", "1,000", "nan", "10GiB!"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(typer.BadParameter, match="such as 10GiB"):
        parse_size(text)


def test_a_memory_limit_of_zero_is_refused():
    with pytest.raises(typer.BadParameter, match="zero"):
        parse_memory_limit("0GiB")
    assert parse_memory_limit("1KiB") == 1024


@given(st.integers(0, 10**6), st.sampled_from(sorted(BYTES_PER_UNIT)))
def test_a_whole_number_of_units_is_exact(count, unit):
    assert parse_size(f"{count}{unit}") == count * BYTES_PER_UNIT[unit]


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("90", 90),
        ("90s", 90),
        ("2m", 120),
        ("2 min", 120),
        ("1h", 3600),
        ("0.5h", 1800),
        (120.0, 120),
    ],
)
def test_durations_are_read_as_people_write_them(text, duration_s):
    assert parse_duration(text) == duration_s


@pytest.mark.parametrize("text", ["0", "0s", "soon", "-5s", "5 days", "9" * 400])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(typer.BadParameter, match="such as 120s"):
        parse_duration(text)


def test_settings_keep_everything_after_the_first_equals_sign():
    assert parse_settings(["a=1", "b = x=y", "a=2"]) == {"a": "2", "b": "x=y"}


@pytest.mark.parametrize("pair", ["a", "=1", "a b=1", "2x=1"])
def test_a_setting_without_a_name_is_refused(pair):
    with pytest.raises(typer.BadParameter, match="name=value"):
        parse_settings([pair])
