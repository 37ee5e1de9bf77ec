"""One driver for every command: run, save after each result, print once, exit by what was found."""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from advisor.cli.options import Results
from advisor.errors import AdvisorError, InconclusiveError, UsageError

if TYPE_CHECKING:
    from advisor.cli.gate_results import GateFiles
    from advisor.engine.command import Asked, Held
    from advisor.engine.nodes import Nodes
    from advisor.engine.question import Kind
    from advisor.engine.record import Conclusions
    from advisor.engine.spec import Spec
    from advisor.telling import Status


_STDOUT = 1
#: A run is kept this often at most: all that follows from it is worked out each time, beside what
#: is being measured.
_KEEP_EVERY_S = 10.0
#: When the command began, by the monotonic clock: its user sees the wall clock. None where the
#: process is not the command's own.
BEGAN_S: ContextVar[float | None] = ContextVar("began_s", default=None)
#: An age of the process beyond it is a clock that counts otherwise.
_MOST_S = 60.0


class Output:
    """Where results go.

    Args:
        asked: The JSON file is replaced by every save, the others are written at the end; so is
            what each write would add to, such as a pipe. `-`, or what leads to stdout, prints it in
            place of the report.
        keeps: Keep what is saved among the last runs as well.
        reads: Files that the command reads, the model file as it was named: no result goes there.
        also: What a verdict is written to in the end besides.

    Raises:
        UsageError: A file cannot be written.
    """

    def __init__(
        self,
        asked: Results,
        *,
        keeps: bool = True,
        reads: Iterable[str | Path | None] = (),
        also: "GateFiles | None" = None,
    ) -> None:
        from advisor.engine.files import is_stream

        self.asked, self._keeps, self._also = asked, keeps, also
        self._next_kept_s, self._has_saved = 0.0, False
        paths = {
            "--json": asked.json_path,
            "--html": asked.html_path,
            "--markdown": asked.markdown_path,
            **(also.paths if also else {}),
        }
        named = [name for each in reads if each for name in (each, str(each).rpartition(":")[0])]
        read = {os.path.realpath(name) for name in named if name}
        taken: dict[str, str] = {}
        for option, path in paths.items():
            if path is None:
                continue
            refuse_unwritable(path)
            place = "-" if is_stdout(path) else os.path.realpath(path)
            if place in taken:
                raise UsageError(
                    f"{taken[place]} and {option} both go to {path}",
                    next_step="Name another file for one of them.",
                )
            if place in read:
                raise UsageError(
                    f"{path} is read by this command", next_step="Name another file for the result."
                )
            taken[place] = option
        self._has_stdout = "-" in taken
        json_path = asked.json_path
        self._waits = json_path is not None and (is_stdout(json_path) or is_stream(json_path))

    def save(self, kind: "Kind", conclusions: "Conclusions", *, is_last: bool = False) -> None:
        """Replace the JSON file, where there is one.

        A run whose first save went well goes on where a later one fails: the last decides.
        """
        from advisor.engine import kept
        from advisor.engine.document import encode_document

        record, json_path = conclusions.record, self.asked.json_path
        is_due = time.monotonic() > self._next_kept_s
        is_worth = is_due and kind.is_worth_telling(record, KeyboardInterrupt())
        keeps = self._keeps and (is_last or is_worth)
        saves = json_path is not None and (is_last or not self._waits)
        if not (keeps or saves):
            return
        document = encode_document(kind, conclusions)
        if keeps:
            self._next_kept_s = time.monotonic() + _KEEP_EVERY_S
            words = [word for word in record.command.argv[2:] if not word.startswith("-")]
            target = record.workload.file if record.workload else next(iter(words), "")
            path = kept.choose_path(record.created_at, kind.name, target)
            error = kept.keep(path, document)
            if error is not None and is_last:
                self.remark(
                    f"This run is not kept, so that `bsadvisor report` does not have it: {path}: "
                    f"{error.strerror}. --json FILE writes it."
                )
        if json_path is None or not saves:
            return
        try:
            write_result(json_path, document)
        except UsageError:  # as on a disk that is full for a while
            if is_last or not self._has_saved:
                raise
        self._has_saved = True

    def write(
        self, kind: "Kind", conclusions: "Conclusions", *, shown: "Kind | None" = None
    ) -> None:
        """Print the report, as another kind shows it, or what goes to stdout; write the files."""
        if not self._has_stdout:
            from rich.console import Console

            from advisor.report.console import write_report

            with writing("to stdout"):
                write_report(
                    Console(),
                    shown or kind,
                    conclusions,
                    headline_only=self.asked.quiet,
                    is_full=self.asked.full or self.asked.verbose,
                )
        if self.asked.html_path is not None:
            from advisor.report.page import render_page

            write_result(self.asked.html_path, render_page(kind, conclusions).encode())
        if self.asked.markdown_path is not None:
            from advisor.report.markdown import render_markdown

            write_result(self.asked.markdown_path, render_markdown(kind, conclusions).encode())
        self.save(kind, conclusions, is_last=True)
        if self._also is not None:
            self._also.write(conclusions)

    def remark(self, text: str) -> None:
        """Tell what is no result."""
        if not self.asked.quiet:
            typer.echo(text, err=True)


def drive(
    kind: "Kind",
    spec: "Spec",
    output: Output,
    *,
    asked: "Asked" = (),
    held: "Held" = (),
    nodes: "Nodes | None" = None,
) -> "Conclusions":
    """Run the command; whatever ends it early, print what was measured before.

    Returns what follows from the record.

    Raises:
        AdvisorError: What ended it; InconclusiveError where it found no answer.
    """
    from advisor.cli.progress_display import open_progress
    from advisor.engine.command import execute
    from advisor.engine.nodes import Leader
    from advisor.report.screen import list_statuses

    latest: list[Conclusions] = []

    def save(found: "Conclusions") -> None:
        latest[:] = [found]
        output.save(kind, found)

    def look() -> "tuple[tuple[Status, ...], str]":
        statuses = list_statuses(kind, latest[0]) if latest else ()
        answer = kind.so_far(latest[0]) if latest and kind.so_far else ""
        return statuses, answer

    # The other nodes end with the code with which this block does.
    with Leader(nodes) if nodes is not None else contextlib.nullcontext() as leader:
        try:
            with open_progress(quiet=output.asked.quiet) as progress:
                if not output.asked.quiet:
                    progress.follow(look)
                execute(
                    kind,
                    spec,
                    argv=sys.argv,
                    progress=progress,
                    save=save,
                    asked=asked,
                    held=held,
                    began_s=BEGAN_S.get(),
                    shows_output=output.asked.verbose,
                    leader=leader,
                )
        except (KeyboardInterrupt, AdvisorError) as error:
            if latest and kind.is_worth_telling(latest[0].record, error):
                with contextlib.suppress(AdvisorError):  # what ended the command is to be reported
                    output.write(kind, latest[0])
            raise
        output.write(kind, latest[0])
        refuse_no_answer(kind, latest[0])
    return latest[0]


def refuse_no_answer(kind: "Kind", conclusions: "Conclusions") -> None:
    """Raise InconclusiveError, or what the headline says, where the record holds no answer.

    Where the answer itself says why, there is nothing more to tell.
    """
    missing = kind.headline(conclusions).missing
    if missing == "":
        raise typer.Exit(InconclusiveError.exit_code)
    if missing is not None:
        raise missing if isinstance(missing, AdvisorError) else InconclusiveError(missing)


def is_stdout(path: Path | None) -> bool:
    """Return whether the user wrote `-` for the file, or what leads to stdout."""
    from advisor.engine.files import is_same_file

    return path is not None and (str(path) == "-" or is_same_file(path, _STDOUT))


def write_stdout(document: bytes) -> None:
    """Write UTF-8 bytes to stdout, whatever encoding the terminal has."""
    sys.stdout.flush()
    sys.stdout.buffer.write(document)
    sys.stdout.buffer.flush()


def write_result(path: Path, content: bytes) -> None:
    """Have the file, or stdout, hold the content; UsageError where it cannot be written."""
    from advisor.engine.files import write_file

    with writing(str(path)):
        if is_stdout(path):
            write_stdout(content)
        else:
            write_file(path, content)


@contextlib.contextmanager
def writing(where: str) -> Iterator[None]:
    """Turn a failure to write into a usage error, but for a reader of stdout who has gone."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(
            f"cannot write {where}: {error.strerror}", next_step="Name another file."
        ) from error


def refuse_unwritable(path: Path | None) -> None:
    """Fail before the run rather than after it where the file cannot be written."""
    if path is None or is_stdout(path):
        return
    if path.is_dir():
        raise UsageError(f"{path} is a folder", next_step="Name a file in it.")
    folder = Path(os.path.realpath(path)).parent
    if not path.exists() and not folder.is_dir():
        raise UsageError(
            f"the folder {folder} does not exist", next_step="Create it, or name another file."
        )
    place = path if path.exists() else folder
    if not os.access(place, os.W_OK):
        raise UsageError(f"{place} must not be written to", next_step="Name another file.")


def find_process_start_s() -> float:
    """Return when this process began, by the monotonic clock: before the interpreter was up."""
    least_s = time.process_time()
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began_s = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - began_s
    except (OSError, ValueError, IndexError, AttributeError):  # not on Linux
        age_s = least_s
    return time.monotonic() - (age_s if least_s <= age_s <= _MOST_S else least_s)
