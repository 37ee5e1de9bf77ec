import io

from rich.console import Console

from advisor.cli.progress_display import (
    PLAIN_INTERVAL_S,
    LiveDisplay,
    PlainProgress,
    SilentProgress,
    open_progress,
)


def test_plain_progress_writes_at_most_one_line_per_interval():
    stream, now = io.StringIO(), [0.0]
    progress = PlainProgress(Console(file=stream, width=80), clock=lambda: now[0])
    for second in range(21):
        now[0] = float(second)
        progress.stage(f"stage {second}", left_s=None if second else 90.0)
        progress.note("[not markup]")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1 + 20 // PLAIN_INTERVAL_S
    assert lines[0] == "[  0 s] stage 0, at most 1 min 30 s left"


def test_a_note_that_is_due_names_its_stage():
    stream, now = io.StringIO(), [0.0]
    console = Console(file=stream, width=80, markup=False, highlight=False)
    progress = PlainProgress(console, clock=lambda: now[0])
    progress.note("[hello]")
    now[0] = 30.0
    progress._stage = "memory"
    progress.note("size 64 fits")
    assert stream.getvalue().splitlines() == ["[  0 s] [hello]", "[ 30 s] memory: size 64 fits"]


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
