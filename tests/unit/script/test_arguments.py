"""The script's command line: what is filled in, what is left out, what is refused."""

import random
import string

import pytest

from advisor.errors import UsageError
from advisor.training.data import Script
from advisor.training.script.arguments import (
    Filling,
    fill,
    fill_batch,
    list_placeholders,
    list_variables,
    read_defaults,
    write_command,
)

_ALL = Filling(batch_size=64, accumulation=2, learning_rate=0.0021, seed=3)


def test_every_placeholder_is_filled_in_wherever_it_stands():
    arguments = ["--bs", "{batch_size}", "opt.lr={learning_rate}", "-k{accumulation}s{seed}"]
    assert fill(arguments, _ALL) == ["--bs", "64", "opt.lr=0.0021", "-k2s3"]


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--bs", "{batch_size}", "--epochs", "3"], ["--epochs", "3"]),
        (["--bs={batch_size}", "x"], ["x"]),
        (["train.batch={batch_size}"], []),
        (["+train.batch={batch_size}"], []),
        (["--bs", "{batch_size=16}"], ["--bs", "16"]),
        (["a", "--lr", "{learning_rate}", "--bs", "{batch_size=8}"], ["a", "--bs", "8"]),
    ],
)
def test_without_a_value_the_option_is_left_out_so_that_the_scripts_own_holds(arguments, left):
    assert fill(arguments, Filling()) == left


def test_a_positional_argument_needs_a_value():
    with pytest.raises(UsageError, match="no value that is your script's own"):
        fill(["{batch_size}"], Filling())
    assert fill(["{batch_size}"], Filling(batch_size=4)) == ["4"]


def test_an_unknown_placeholder_is_an_error_and_doubled_braces_are_the_scripts_own():
    with pytest.raises(UsageError, match=r"\{batchsize\}"):
        list_placeholders(["--bs", "{batchsize}"])
    assert list_placeholders(['{{"a": {seed}}}']) == {"seed"}
    assert fill(['{{"a": {seed}}}'], _ALL) == ['{"a": 3}']
    assert list_placeholders(['{"a": 1}', "{}"]) == frozenset()


def test_text_without_placeholders_comes_out_as_it_went_in():
    generator = random.Random(0)
    letters = string.ascii_letters + string.digits + "-_=:,. /\"'"
    for _ in range(300):
        arguments = ["".join(generator.choices(letters, k=6)) for _ in range(4)]
        assert fill(arguments, _ALL) == arguments
        doubled = [each.replace("a", "{{b}}") for each in arguments]
        wanted = [each.replace("a", "{b}") for each in arguments]
        assert fill(doubled, Filling()) == wanted


def test_rates_keep_their_value_through_text():
    generator = random.Random(1)
    for _ in range(300):
        rate = 10.0 ** generator.uniform(-7, 2)
        (text,) = fill(["{learning_rate}"], Filling(learning_rate=rate))
        assert float(text) == pytest.approx(rate, rel=1e-8)


def test_defaults_and_variables():
    assert read_defaults(["{batch_size=16}", "{learning_rate}"]) == {"batch_size": "16"}
    assert list_variables(_ALL) == {
        "BSADVISOR_BATCH_SIZE": "64",
        "BSADVISOR_ACCUMULATION": "2",
        "BSADVISOR_LEARNING_RATE": "0.0021",
        "BSADVISOR_SEED": "3",
    }


@pytest.mark.parametrize("is_global", [False, True])
def test_a_batch_is_told_as_the_script_takes_it(is_global):
    told = Script(arguments=("{batch_size}", "{accumulation}"), batch_is_global=is_global)
    wanted = Filling(batch_size=96 if is_global else 32, accumulation=3)
    assert fill_batch(told, 32, 3) == wanted
    alone = Script(arguments=("{batch_size}",), batch_is_global=is_global, parts=4)
    assert fill_batch(alone, 32) == Filling(batch_size=32 if is_global else 8)


def test_the_command_line_can_be_pasted():
    script = Script(arguments=("--bs", "{batch_size}", "--lr", "{learning_rate}", "--out", "a b"))
    filling = Filling(batch_size=4)
    assert write_command("train.py", script, filling) == "python train.py --bs 4 --out 'a b'"
    module = Script(arguments=("{batch_size}",), is_module=True)
    assert write_command("a.train", module, filling) == "python -m a.train 4"


def test_braces_that_were_never_doubled_are_left_alone():
    assert fill(['{"a": {"b": 1}}', '{"a": {"b": {batch_size}}}'], _ALL) == [
        '{"a": {"b": 1}}',
        '{"a": {"b": 64}}',
    ]
