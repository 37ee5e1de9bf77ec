"""`bsadvisor watch`: a log once, and a log that grows."""

from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from advisor.cli import app
from tests.unit.in_loop.logs import write_lines


def run(*arguments, **environment):
    return CliRunner().invoke(app, ["watch", *map(str, arguments)], env=environment)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "noise.jsonl"


@pytest.fixture
def follow(monkeypatch, log):
    """A function: follows the log until Ctrl-C; between two looks it gains a text, or changes."""

    def start(*texts, **environment):
        left = list(texts)

        def sleep(_seconds):
            if not left:
                raise KeyboardInterrupt
            change = left.pop(0)
            if callable(change):
                change()
                return
            with log.open("a") as file:
                file.write(change)

        monkeypatch.setattr("advisor.cli.watch.time", SimpleNamespace(sleep=sleep))
        return run(log, **environment)

    return start


def test_once_prints_one_screen(log):
    log.write_text(write_lines([250.0] * 160))
    result = run("--once", log)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Now best: batch 256")
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80


def test_a_log_that_grows_gains_lines_until_the_reader_ends_it(follow):
    text = write_lines([250.0] * 160)
    half = len(text) // 2  # in the midst of a line
    result = follow("", text[:half], text[half:], "", "")
    assert result.exit_code == 0
    first, *told = result.stdout.splitlines()
    assert first.startswith("waiting for")
    assert len(told) == 2
    assert told[0].startswith("step 1,")
    assert told[1].startswith("step 3,180; Now best: batch 256")


def test_a_log_that_begins_anew(follow, log):
    result = follow(
        write_lines([250.0] * 160),
        lambda: log.write_text(write_lines([20.0] * 30)),
        lambda: log.unlink(),
        write_lines([20.0] * 20),
    )
    steps = [line.partition(";")[0] for line in result.stdout.splitlines()[1:]]
    assert steps == ["step 3,180", "step 580", "step 380"]


def test_on_a_terminal_the_screen_is_drawn_again(follow):
    result = follow(write_lines([250.0] * 160), "", FORCE_COLOR="1", COLUMNS="80")
    assert result.exit_code == 0
    assert "Now best" in result.stdout


def test_controls_in_a_log_do_nothing_to_the_terminal(log):
    log.write_text(write_lines([250.0] * 20, optimizer="SGD\x1b[2J"))
    assert "\x1b[2J" not in run("--once", log).stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no noise log"),
        ("", "has no line yet"),
        ('{"step": 1', "has no line yet"),
        ('{"step": 1}\n', "line 1"),
        ("\x00\n", "line 1"),
    ],
)
def test_a_log_that_says_nothing_is_an_error(log, text, said):
    if text is not None:
        log.write_text(text)
    result = run("--once", log)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_options_that_cannot_be(log):
    log.write_text(write_lines([250.0] * 20))
    for arguments in (
        ["--learning-rate", "nan"],
        ["--run", "none.json"],
        ["--learning-rate", "-1"],
    ):
        assert run("--once", log, *arguments).exit_code == 2
    assert run("--once", log.parent).exit_code == 2
