"""One driver for every command: run, save after each result, print once, exit by what was found."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from advisor.errors import AdvisorError, InconclusiveError, UsageError

if TYPE_CHECKING:
    from advisor.engine.command import Asked
    from advisor.engine.conclusions import Conclusions
    from advisor.engine.question import Kind
    from advisor.engine.record import Record
    from advisor.engine.spec import Spec
    from advisor.telling import Headline, Told


class Output:
    """Where results go.

    Args:
        json_path: The file that every save replaces; `-` waits for the end and prints to stdout.
        html_path: The file that the end of the command writes.
        quiet: Print the headline alone, and no progress.

    Raises:
        UsageError: A file cannot be written.
    """

    def __init__(
        self, *, json_path: Path | None = None, html_path: Path | None = None, quiet: bool = False
    ) -> None:
        self.quiet = quiet
        self._to_stdout = is_stdout(json_path)
        self._json_path = None if self._to_stdout else json_path
        self._html_path = html_path
        for path in (self._json_path, html_path):
            refuse_unwritable(path)

    def save(self, kind: "Kind", conclusions: "Conclusions") -> None:
        """Replace the JSON file, where there is one."""
        from advisor.engine.document import write_document

        if self._json_path is not None:
            with writing(self._json_path):
                write_document(self._json_path, kind, conclusions)

    def write(
        self,
        kind: "Kind",
        conclusions: "Conclusions",
        *,
        part: "tuple[Headline, Told] | None" = None,
    ) -> None:
        """Print the report, or the one part of it, or the JSON document, and write the page."""
        if self._html_path is not None:
            from advisor.report.page import write_page

            with writing(self._html_path):
                write_page(self._html_path, kind, conclusions)
        if self._to_stdout:
            from advisor.engine.document import encode_document

            write_stdout(encode_document(kind, conclusions))
        else:
            from rich.console import Console

            from advisor.report.console import write_part, write_report

            if part is not None:
                write_part(Console(), *part, headline_only=self.quiet)
            else:
                write_report(Console(), kind, conclusions, headline_only=self.quiet)


def drive(kind: "Kind", spec: "Spec", output: Output, *, asked: "Asked" = ()) -> None:
    """Run the command; whatever ends it early, print what was measured before.

    Raises:
        AdvisorError: What ended it; InconclusiveError where it found no answer.
    """
    from advisor.cli.progress_display import open_progress
    from advisor.engine.command import execute
    from advisor.engine.conclusions import Conclusions

    latest: list[Conclusions] = []

    def save(record: "Record") -> None:
        latest[:] = [Conclusions(record)]
        output.save(kind, latest[0])

    try:
        with open_progress(quiet=output.quiet) as progress:
            execute(kind, spec, argv=sys.argv, progress=progress, save=save, asked=asked)
    except (KeyboardInterrupt, AdvisorError) as error:
        if latest and kind.is_worth_telling(latest[0].record, error):
            with contextlib.suppress(AdvisorError):  # what ended the command is the one to report
                output.write(kind, latest[0])
        raise
    output.write(kind, latest[0])
    refuse_no_answer(kind, latest[0])


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
    """Return whether the user wrote `-` for the file."""
    return path is not None and str(path) == "-"


def write_stdout(document: bytes) -> None:
    """Write UTF-8 bytes to stdout, whatever encoding the terminal has."""
    sys.stdout.flush()
    sys.stdout.buffer.write(document)
    sys.stdout.buffer.flush()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write `path` into a usage error."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", next_step="Name another file."
        ) from error


def refuse_unwritable(path: Path | None) -> None:
    """Fail before the run rather than after it where the file cannot be written."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"{path} is a folder", next_step="Name a file in it.")
    if not path.parent.is_dir():
        raise UsageError(
            f"the folder {path.parent} does not exist", next_step="Create it, or name another file."
        )
