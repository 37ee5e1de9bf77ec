"""What the run is doing right now, on stderr: a live line on a terminal, plain lines elsewhere."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import Progress as LiveProgress
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from advisor.units import format_duration

if TYPE_CHECKING:
    from advisor.engine.progress import Progress

#: Seconds between two plain lines: enough to see life in a log without filling it.
PLAIN_INTERVAL_S = 10.0
#: Seconds between two looks whether a line is due.
_LOOK_S = 0.5


@contextlib.contextmanager
def open_progress(*, quiet: bool, stream: IO[str] | None = None) -> Iterator["Progress"]:
    """Give the display that fits stderr, or `stream` in its place; it is gone on leaving."""
    console = Console(file=stream, stderr=stream is None, highlight=False, markup=False)
    if quiet:
        yield SilentProgress()
    elif console.is_terminal:
        with LiveDisplay(console) as display:
            yield display
    else:
        with PlainProgress(console) as plain:
            yield plain


class SilentProgress:
    """Shows nothing."""

    def stage(self, name: str, *, left_s: float | None) -> None:
        """Show nothing."""

    def plan(self, text: str) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""


class PlainProgress:
    """Plain lines: every note at once, and the stage about every `PLAIN_INTERVAL_S`.

    As a context it repeats the stage while nothing else happens.

    Args:
        console: Where the lines go.
        clock: Seconds that only grow.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._began_s = clock()
        self._next_s = self._began_s
        self._stage = ""
        self._ends_s: float | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._repeater = threading.Thread(target=self._repeat, daemon=True)

    def __enter__(self) -> Self:
        self._repeater.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._repeater.join()

    def stage(self, name: str, *, left_s: float | None) -> None:
        """Say which stage runs, now or when a line is due."""
        with self._lock:
            self._stage = name
            self._ends_s = None if left_s is None else self._clock() + left_s
        self.say_stage_if_due()

    def plan(self, text: str) -> None:
        """Say the plan at once."""
        with self._lock:
            self._say(f"plan: {text}")

    def note(self, text: str) -> None:
        """Say `text` at once."""
        with self._lock:
            self._say(f"{self._stage}: {text}" if self._stage else text)

    def say_stage_if_due(self) -> None:
        """Say which stage runs if the last line was long enough ago."""
        with self._lock:
            now_s = self._clock()
            if not self._stage or now_s < self._next_s:
                return
            left_s = 0.0 if self._ends_s is None else self._ends_s - now_s
            left = f", at most {format_duration(left_s)} left" if left_s >= 1.0 else ""
            self._say(self._stage + left)

    def _repeat(self) -> None:
        while not self._closed.wait(_LOOK_S):
            self.say_stage_if_due()

    def _say(self, text: str) -> None:
        now_s = self._clock()
        self._next_s = now_s + PLAIN_INTERVAL_S
        elapsed = f"{now_s - self._began_s:.0f} s"
        self._console.print(f"[{elapsed:>5}] {text}", soft_wrap=True)


class LiveDisplay:
    """One line that is redrawn in place: stage, elapsed time, time left, latest note."""

    def __init__(self, console: Console) -> None:
        self._live = LiveProgress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False, style="dim"),
            TextColumn("{task.fields[note]}", markup=False, style="dim"),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._live.add_task("starting", total=None, left="", note="")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def stage(self, name: str, *, left_s: float | None) -> None:
        """Show the stage and the most time that the run may still take."""
        left = "" if left_s is None else f"at most {format_duration(left_s)} left"
        self._live.update(self._task, description=name, left=left, note="")

    def plan(self, text: str) -> None:
        """Print the plan above the line."""
        self._live.console.print(f"plan: {text}", soft_wrap=True)

    def note(self, text: str) -> None:
        """Show one line of news beside the stage."""
        self._live.update(self._task, note=text)
