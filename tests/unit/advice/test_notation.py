"""Tables of batch sizes: read, written, and read again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.advice.notation import BatchSizeTable

TABLES = st.lists(
    st.tuples(st.integers(1, 10**9), st.integers(1, 10**6)), max_size=6, unique_by=lambda e: e[0]
).map(lambda rest: BatchSizeTable(((0, 64), *sorted(rest))))


@pytest.mark.parametrize(
    "text", ["0:64 2e6:128 8e6:256", "0:64,2M:128,8M:256", "0:64 2_000_000:128 8.0e6:256"]
)
def test_megatrons_notation_is_read(text):
    table = BatchSizeTable.parse(text)
    assert table.entries == ((0, 64), (2_000_000, 128), (8_000_000, 256))
    assert str(table) == "0:64 2M:128 8M:256"


def test_what_stands_before_a_colon_may_be_tokens():
    table = BatchSizeTable.parse("0:768 250B:1536", tokens_per_sample=4096)
    assert table.entries == ((0, 768), (250 * 10**9 // 4096, 1536))


@given(TABLES, st.integers(1, 8192))
def test_what_is_written_is_read_as_it_was(table, tokens):
    assert BatchSizeTable.parse(str(table)) == table
    text = table.write(tokens_per_sample=tokens)
    assert BatchSizeTable.parse(text, tokens_per_sample=tokens) == table
    settings = table.write_olmo_core(tokens_per_sample=tokens)
    assert BatchSizeTable.from_olmo_core(settings, tokens_per_sample=tokens) == table


def test_olmo_cores_settings_are_read():
    settings = {
        "batch_sizes": [4_194_304, 8_388_608],
        "schedule": [{"value": 0, "unit": "tokens"}, {"value": 167_772_160_000, "unit": "tokens"}],
    }
    table = BatchSizeTable.from_olmo_core(settings, tokens_per_sample=8192)
    assert table.entries == ((0, 512), (20_480_000, 1024))


def follow_megatron(start, increment, samples, final, seen):
    """Megatron's own rule for the batch after so many samples."""
    if seen > samples:
        return final
    return start + int(seen / (samples / ((final - start) // increment))) * increment


def test_megatrons_ramp_is_read_as_megatron_follows_it():
    table = BatchSizeTable.from_megatron_ramp(16, 8, 300_000, final=1024)
    assert (len(table.entries), table.entries[-1]) == (127, (300_000, 1024))
    for seen in range(0, 310_000, 777):
        assert table.find(seen) == follow_megatron(16, 8, 300_000, 1024, seen)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins at 0"),
        ("100:64", "begins at 0"),
        ("0:64 500:128 500:256", "go upwards"),
        ("0:64 500:0", "at least one sample"),
        ("64", "'' is no number"),
        ("0:64 later:128", "'later' is no number"),
        ("0:64 -5:128", "'-5' is no number"),
        ("0:64 1e999:128", "'1e999' is no number"),
    ],
)
def test_what_is_no_table_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        BatchSizeTable.parse(text)


def test_schedules_that_samples_do_not_tell_are_refused():
    steps = {"batch_sizes": [8, 16], "schedule": [{"value": n, "unit": "steps"} for n in (0, 9)]}
    with pytest.raises(ValueError, match="has its tokens"):
        BatchSizeTable.from_olmo_core(steps, tokens_per_sample=1)
    odd = {"batch_sizes": [9], "schedule": [{"value": 0, "unit": "tokens"}]}
    with pytest.raises(ValueError, match="no whole number of sequences of 4"):
        BatchSizeTable.from_olmo_core(odd, tokens_per_sample=4)
    with pytest.raises(ValueError, match="do not lead from 16 to 40"):
        BatchSizeTable.from_megatron_ramp(16, 16, 1000, final=40)
    with pytest.raises(ValueError, match="a token at least, not 0"):
        BatchSizeTable.parse("0:64", tokens_per_sample=0)


def test_the_batch_of_a_step_is_that_of_its_first_sample():
    table = BatchSizeTable.parse("0:4 10:8 20:16")
    assert [table.find(seen) for seen in (0, 9, 10, 19, 20, 10**9)] == [4, 4, 8, 8, 16, 16]
    assert [*table.list_from(12)] == [8, 16]
