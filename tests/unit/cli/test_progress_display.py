import io
import time

from rich.console import Console

from advisor.cli import progress_display
from advisor.cli.progress_display import (
    PLAIN_INTERVAL_S,
    LiveDisplay,
    PlainProgress,
    SilentProgress,
    open_progress,
)
from advisor.telling import Status


def test_plain_progress_says_its_stages_at_most_once_per_interval():
    stream, now = io.StringIO(), [0.0]
    progress = PlainProgress(Console(file=stream, width=80), clock=lambda: now[0])
    for second in range(21):
        now[0] = float(second)
        progress.stage(f"stage {second}", left_s=None if second else 90.0)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1 + 20 // PLAIN_INTERVAL_S
    assert lines[0] == "[  0 s] stage 0, at most 1 min 30 s left"


def test_a_stage_that_lasts_is_said_again_with_what_is_left():
    stream, now = io.StringIO(), [0.0]
    progress = PlainProgress(Console(file=stream, width=80), clock=lambda: now[0])
    progress.say_stage_if_due()
    progress.stage("memory", left_s=90.0)
    for now[0] in (5.0, 10.0, 15.0, 100.0):
        progress.say_stage_if_due()
    assert stream.getvalue().splitlines() == [
        "[  0 s] memory, at most 1 min 30 s left",
        "[ 10 s] memory, at most 1 min 20 s left",
        "[100 s] memory",
    ]


def test_a_pipe_hears_of_a_stage_that_lasts_until_the_display_closes(monkeypatch):
    monkeypatch.setattr(progress_display, "PLAIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(progress_display, "_LOOK_S", 0.001)
    stream = io.StringIO()
    with open_progress(quiet=False, stream=stream) as progress:
        progress.stage("memory", left_s=None)
        while len(stream.getvalue().splitlines()) < 3:
            time.sleep(0.001)
    said = stream.getvalue()
    assert not progress._repeater.is_alive()
    assert set(said.splitlines()) == {"[  0 s] memory"}


def test_every_note_is_said_at_once_in_its_own_words():
    stream, now = io.StringIO(), [0.0]
    console = Console(file=stream, width=80, markup=False, highlight=False)
    progress = PlainProgress(console, clock=lambda: now[0])
    progress.note("[hello]")
    progress.stage("memory", left_s=None)
    now[0] = 1.0
    progress.note("memory: size 64 fits")
    progress.note("throughput: its time is spent")
    assert stream.getvalue().splitlines() == [
        "[  0 s] [hello]",
        "[  1 s] memory: size 64 fits",
        "[  1 s] throughput: its time is spent",
    ]


def test_quiet_shows_nothing_and_a_pipe_gets_plain_lines(capsys):
    with open_progress(quiet=True) as progress:
        assert isinstance(progress, SilentProgress)
        progress.stage("memory", left_s=1.0)
        progress.note("x")
    with open_progress(quiet=False, stream=io.StringIO()) as progress:
        assert isinstance(progress, PlainProgress)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_one_line_that_goes_away(monkeypatch):
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True)
    with LiveDisplay(console) as display:
        display.stage("memory", left_s=61.0)
        display.note("[size 64] fits")
        display._live.refresh()
    assert "memory" in stream.getvalue()
    assert "at most 1 min 1 s left" in stream.getvalue()
    assert "[size 64] fits" in stream.getvalue()


def test_a_terminal_shows_the_stages_done_and_the_answer_so_far():
    stream = io.StringIO()
    known = (Status("Memory", "fits"), Status("Noise", "open", "inconclusive"))
    with LiveDisplay(Console(file=stream, width=100, force_terminal=True)) as display:
        display.follow(lambda: (known, "so far: batch 64"))
        display.stage("trial: batch 64", left_s=None)
        display._live.refresh()
    assert "✓ Memory     fits" in stream.getvalue()
    assert "so far: batch 64" in stream.getvalue()
    assert "open" not in stream.getvalue()


def test_plain_lines_say_the_answer_so_far_where_it_changed():
    stream = io.StringIO()
    answers = iter(["", "so far: batch 64", "so far: batch 64", "so far: batch 96"])
    plain = PlainProgress(Console(file=stream, width=100))
    plain.follow(lambda: ((), next(answers)))
    for name in ("memory", "noise", "loader", "trial"):
        plain.stage(name, left_s=None)
    assert stream.getvalue().count("so far: batch 64") == 1
    assert stream.getvalue().count("so far: batch 96") == 1
