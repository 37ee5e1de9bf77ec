"""A log of a real run: what is written is read again, and what is wrong is named by its line."""

import pytest

from advisor.errors import UsageError
from advisor.noise.data import NoiseLogEntry
from advisor.noise.log import encode_noise_line, read_noise_log

FIRST = '{"step": 3, "micro_batch_sizes": [4, 4, 8], "sqnorms": [2, 4, 1], "mean_sqnorm": 0.5}'
SECOND = (
    '{"step": 5, "small_batch_size": 8, "small_sqnorm": 3, "large_batch_size": 32,'
    ' "large_sqnorm": 1, "loss": 0.7}'
)


def read(tmp_path, *lines):
    path = tmp_path / "noise.jsonl"
    path.write_text("\n".join(lines))
    return read_noise_log(path)


def test_both_forms_are_read(tmp_path):
    assert read(tmp_path, FIRST, "", SECOND, "") == (
        NoiseLogEntry(
            at_step=3, samples=16, micro_batches=3, micro_batch_sqnorm=2.0, mean_sqnorm=0.5
        ),
        NoiseLogEntry(
            at_step=5,
            samples=32,
            micro_batches=4,
            micro_batch_sqnorm=3.0,
            mean_sqnorm=1.0,
            loss=0.7,
        ),
    )


def test_what_is_encoded_is_read_again(tmp_path):
    line = encode_noise_line(
        3, micro_batch_sizes=[4, 4, 8], sqnorms=[2, 4, 1], mean_sqnorm=0.5, loss=None
    )
    assert line.endswith("}\n")
    assert read(tmp_path, line) == read(tmp_path, FIRST)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("{", "truncated"),
        ('{"step": 1}', "micro_batch_sizes"),
        (FIRST.replace("mean_sqnorm", "mean_norm"), "mean_norm"),
        (FIRST.replace("[2, 4, 1]", "[2, 4]"), "as long"),
        (FIRST.replace("[4, 4, 8]", "[4, 0, 8]"), "above 0"),
        (FIRST.replace("0.5", "-0.5"), "not negative"),
        (FIRST.replace("[2, 4, 1]", "[2, -4, 1]"), "not negative"),
        (FIRST.replace("0.5", '"a"'), "float"),
        (SECOND.replace('"large_batch_size": 32', '"large_batch_size": 8'), "below"),
        (SECOND.replace('"small_batch_size": 8', '"small_batch_size": 0'), "above 0"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(tmp_path, line, word):
    with pytest.raises(UsageError, match="line 2") as caught:
        read(tmp_path, FIRST, line)
    assert word in caught.value.message
    assert "docs/method.md" in caught.value.next_step


def test_an_empty_log_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no line"):
        read(tmp_path, "", " ")


def test_a_missing_log_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot read the noise log"):
        read_noise_log(tmp_path / "none.jsonl")


def test_an_impossible_step_is_not_encoded():
    with pytest.raises(ValueError, match="two at least"):
        encode_noise_line(0, micro_batch_sizes=[4], sqnorms=[1.0], mean_sqnorm=1.0)


def test_lines_told_from_something_else_than_the_last_do_not_count(tmp_path):
    lines = [SECOND.replace("}", f', "estimator": "{name}"}}') for name in ("per-example", "ranks")]
    assert len(read(tmp_path, *lines)) == 1
    assert len(read(tmp_path, *lines, lines[1])) == 2


@pytest.mark.parametrize(
    "line",
    [
        FIRST.replace('"step": 3', '"step": -3'),
        FIRST.replace("[4, 4, 8]", "[4, 4, 1e200]"),
        FIRST.replace("[2, 4, 1]", "[2, 4, 1e300]").replace("[4, 4, 8]", "[4, 4, 1e100]"),
        FIRST.replace("0.5", "1e308"),
        SECOND.replace('"small_batch_size": 8', '"small_batch_size": 1e-300'),
        SECOND.replace("8,", "3,").replace("32", "3.0000000000000001"),
        SECOND.replace("0.7", "-1e308"),
    ],
)
def test_a_line_of_no_possible_step_is_refused_in_place_of_figures_without_an_end(tmp_path, line):
    with pytest.raises(UsageError, match="line 2"):
        read(tmp_path, FIRST, line)
