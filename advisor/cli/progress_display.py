"""What the run is doing right now, on stderr: a live block on a terminal, plain lines elsewhere."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Self

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from advisor.engine.run import Progress
from advisor.telling import Status
from advisor.units import format_duration

#: What is known so far: how each stage ended, and the answer in a line, empty without one.
Known = tuple[tuple[Status, ...], str]
#: Seconds between two plain lines: enough to see life in a log without filling it.
PLAIN_INTERVAL_S = 10.0
#: Seconds between two looks at what is known, while one part of the run goes on.
LOOK_EVERY_S = 5.0
#: Seconds between two looks whether a line is due.
_LOOK_S = 0.5


@contextlib.contextmanager
def open_progress(*, quiet: bool, stream: IO[str] | None = None) -> "Iterator[SilentProgress]":
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


class SilentProgress(Progress):
    """Shows nothing, but knows the stage, and looks at what is known as another part begins."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s = self._looked_s = clock()
        self._ends_s: float | None = None
        self._stage = ""
        self._look: Callable[[], Known] = lambda: ((), "")
        self._known: Known = ((), "")

    def follow(self, look: Callable[[], Known]) -> None:
        """Look at what is known with this."""
        self._look = look

    def stage(self, name: str, *, left_s: float | None) -> None:
        """Take note of the stage; a part that goes on for long is looked at now and then."""
        now_s = self._clock()
        is_another = name.partition(":")[0] != self._stage.partition(":")[0]
        if is_another or now_s > self._looked_s + LOOK_EVERY_S:
            self._looked_s, self._known = now_s, self._look()
        self._stage, self._ends_s = name, None if left_s is None else now_s + left_s

    def _tell_left(self) -> str:
        left_s = 0.0 if self._ends_s is None else self._ends_s - self._clock()
        return f", at most {format_duration(left_s)} left" if left_s >= 1.0 else ""


class PlainProgress(SilentProgress):
    """Plain lines: every note at once, and the stage about every `PLAIN_INTERVAL_S`.

    As a context it repeats the stage while nothing else happens.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._console = console
        self._next_s = self._began_s
        self._told = ""
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
            super().stage(name, left_s=left_s)
            _, answer = self._known
            if answer not in {"", self._told}:
                self._told = answer
                self._say(answer)
        self.say_stage_if_due()

    def plan(self, text: str) -> None:
        """Say the plan at once."""
        with self._lock:
            self._say(f"plan: {text}")

    def note(self, text: str) -> None:
        """Say `text` at once."""
        with self._lock:
            self._say(text)  # which names what it is of

    def say_stage_if_due(self) -> None:
        """Say which stage runs if the last line was long enough ago."""
        with self._lock:
            if self._stage and self._clock() >= self._next_s:
                self._say(self._stage + self._tell_left())

    def _repeat(self) -> None:
        while not self._closed.wait(_LOOK_S):
            self.say_stage_if_due()

    def _say(self, text: str) -> None:
        now_s = self._clock()
        self._next_s = now_s + PLAIN_INTERVAL_S
        elapsed = f"{now_s - self._began_s:.0f} s"
        self._console.print(f"[{elapsed:>5}] {text}", soft_wrap=True)


class LiveDisplay(SilentProgress):
    """A block that is redrawn in place: the stages done, the answer so far, the one that runs."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._spinner = Spinner("dots")
        self._note = ""
        self._live = Live(
            get_renderable=self._draw,
            console=console,
            transient=True,
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def stage(self, name: str, *, left_s: float | None) -> None:
        """Show the stage and the most time that the run may still take."""
        super().stage(name, left_s=left_s)
        self._note = ""

    def plan(self, text: str) -> None:
        """Print the plan above the block."""
        self._live.console.print(f"plan: {text}", soft_wrap=True)

    def note(self, text: str) -> None:
        """Show one line of news beside the stage."""
        self._note = text

    def _draw(self) -> Group:
        from advisor.report.screen import draw_status

        statuses, answer = self._known
        parts = [draw_status(each) for each in statuses if each.state == "measured"]
        parts += [Text(answer, style="bold", no_wrap=True, overflow="ellipsis")] if answer else []
        elapsed = format_duration(self._clock() - self._began_s)
        note = f", {self._note}" if self._note else ""
        line = f"{self._stage or 'starting'}, {elapsed}{self._tell_left()}{note}"
        self._spinner.update(text=Text(line, no_wrap=True, overflow="ellipsis"))
        return Group(*parts, self._spinner)
