"""Where results go: the report to stdout, the JSON document to a file or to stdout."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.errors import UsageError

if TYPE_CHECKING:
    from advisor.engine.run_record import RunRecord


class Results:
    """The results of one run: kept, saved after each stage, and printed once at the end.

    Args:
        json_path: The file that every save replaces; `-` waits for the end and prints to stdout.
        html_path: The file that the end of the run writes.
        quiet: Print the headline alone.
    """

    def __init__(self, *, json_path: Path | None, html_path: Path | None, quiet: bool) -> None:
        self.record: RunRecord | None = None
        self._to_stdout = is_stdout(json_path)
        self._json_path = None if self._to_stdout else json_path
        self._html_path = html_path
        self._quiet = quiet
        for path in (self._json_path, html_path):
            refuse_unwritable(path)

    def save(self, record: "RunRecord") -> None:
        """Keep `record` as the latest state of the run and replace the JSON file with it."""
        from advisor.advice.derive import derive
        from advisor.engine.files import write_document

        self.record = record
        if self._json_path is not None:
            with writing(self._json_path):
                write_document(self._json_path, record, derive(record))

    def write(self) -> bool:
        """Print the latest record; return whether it holds a recommendation."""
        if self.record is None:
            return False
        from advisor.advice.derive import derive
        from advisor.engine.files import encode_document

        derived = derive(self.record)
        if self._html_path is not None:
            from advisor.report.html import write_html

            with writing(self._html_path):
                write_html(self._html_path, self.record, derived)
        if self._to_stdout:
            write_stdout(encode_document(self.record, derived))
        else:
            from rich.console import Console

            from advisor.report.terminal import write_report

            write_report(Console(), self.record, derived, headline_only=self._quiet)
        return derived.recommendation is not None


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
