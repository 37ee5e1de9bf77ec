"""`bsadvisor watch LOG`: the batch and rate that would be best now, from a running job's log."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli.failures import reporting_failures
from advisor.cli.options import Results, flag, option
from advisor.cli.quantities import parse_rate
from advisor.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from advisor.in_loop.live import LiveAdvice
    from advisor.rate.data import Candidate

#: Seconds between two looks at the log.
_LOOK_S = 1.0
#: And between two lines where the output is no terminal.
_LINE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class _Watched:
    """How the log is read, and what it does not say."""

    once: bool = flag("Print what the log says now, and exit.")
    run: str | None = option(
        "A run of the same training, whose timed steps enter; last is the newest.",
        metavar="RUN",
        show_default="noise alone",
    )
    base_batch_size: int | None = option(
        "Batch that the learning rate was tuned for.", show_default="the log's"
    )
    learning_rate: float | None = option(
        "Rate at that batch.", metavar="RATE", parser=parse_rate, show_default="the log's"
    )
    optimizer: str | None = option(
        "Its class, such as AdamW, by which the rate is scaled.",
        metavar="NAME",
        show_default="the log's",
    )


@reporting_failures
def watch(
    log: Annotated[
        Path,
        typer.Argument(metavar="LOG", help="The file that NoiseScaleMonitor or your loop writes."),
    ],
    *,
    watched: _Watched,
    _results: Annotated[Results, "verbose"],
) -> None:
    """Follow the log of a running training: its noise scale, and the batch that would be best now.

    It reads the log again as that grows, until Ctrl-C.
    """
    from rich.console import Console

    from advisor.in_loop.live import Setting, conclude_live
    from advisor.in_loop.tell_live import tell_headline, tell_live
    from advisor.noise.log import NoiseLog
    from advisor.report.console import draw_part
    from advisor.report.encoding import write_encodable

    base = Setting(
        batch_size=watched.base_batch_size,
        learning_rate=watched.learning_rate,
        optimizer=watched.optimizer,
    )
    candidates = () if watched.run is None else _read_candidates(watched.run)
    grown = NoiseLog(log)

    def look() -> "LiveAdvice | None":
        """Return what follows where the log has gained lines; None also before there is a log."""
        if not grown.read():
            return None
        return conclude_live(grown.lines, base=base, candidates=candidates)

    console = Console()
    if not watched.once:
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            _follow(console, log, look)
    elif (advice := look()) is not None:
        write_encodable(console, draw_part(tell_headline(advice), tell_live(advice)))
    else:
        what = f"the noise log {log} has no line yet"
        raise UsageError(
            what if log.exists() else f"there is no noise log {log}",
            next_step="Give another file, or wait for a line.",
        )


def _follow(console: "Console", log: Path, look: "Callable[[], LiveAdvice | None]") -> None:
    """Tell what follows again and again: on one screen, or in lines where there is none."""
    from rich.console import ConsoleRenderable
    from rich.live import Live
    from rich.text import Text

    from advisor.in_loop.tell_live import tell_headline, tell_line, tell_live
    from advisor.report.console import draw_part
    from advisor.report.encoding import Harmless, write_encodable

    is_live = console.is_terminal and not console.options.ascii_only
    with Live(console=console, auto_refresh=False) if is_live else contextlib.nullcontext() as live:

        def show(drawn: ConsoleRenderable) -> None:
            if live is None:
                write_encodable(console, drawn)
            else:
                live.update(Harmless(drawn), refresh=True)

        show(Text(f"waiting for {log}", overflow="ignore", no_wrap=True))
        while True:
            advice = look()
            if advice is not None and live is None:
                show(Text(tell_line(advice), overflow="ignore", no_wrap=True))
            elif advice is not None:
                show(draw_part(tell_headline(advice), tell_live(advice)))
            time.sleep(_LINE_S if advice is not None and live is None else _LOOK_S)


def _read_candidates(run: str) -> "tuple[Candidate, ...]":
    """Return the batches that a run timed; UsageError where it is no such run, or has none."""
    from advisor.advice.plan import ADVICE
    from advisor.engine.document import read_record
    from advisor.engine.kept import resolve
    from advisor.engine.record import Conclusions
    from advisor.questions import KINDS

    path = resolve(run)
    kind, record = read_record(path, KINDS)
    advice = Conclusions(record).of(ADVICE) if kind.name == "run" else None
    if advice is None or not advice.candidates:
        raise UsageError(f"{path} has no timed steps", next_step="Give a file of bsadvisor probe.")
    return advice.candidates
