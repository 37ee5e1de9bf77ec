"""A verdict besides the terminal: Markdown, a comment, JUnit, trackers, what GitHub shows."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from advisor.cli.drive import refuse_unwritable, write_result
from advisor.errors import UsageError

if TYPE_CHECKING:
    from advisor.engine.conclusions import Conclusions

_FORMATS = ("github-action-benchmark", "bencher")


class GateResults:
    """Writes them all.

    On GitHub the summary of the job and its annotations are written without being asked for.

    Raises:
        UsageError: A file cannot be written, or a format is not known.
    """

    def __init__(
        self,
        *,
        markdown_path: Path | None,
        comment_path: Path | None,
        junit_path: Path | None,
        exports: Sequence[str],
    ) -> None:
        self._markdown_path, self._comment_path = markdown_path, comment_path
        self._junit_path = junit_path
        self._exports = [_parse_export(text) for text in exports]
        paths = (markdown_path, comment_path, junit_path, *(path for _, path in self._exports))
        for path in paths:
            refuse_unwritable(path)

    def write(self, conclusions: "Conclusions") -> None:
        """Write what was asked for, and what GitHub shows."""
        from advisor.gate.plan import COMPARISON
        from advisor.report import ci

        found = conclusions.of(COMPARISON)
        if found is None:
            return
        markdown = ci.render_markdown(conclusions)
        _write(self._markdown_path, lambda: markdown)
        _write(self._junit_path, lambda: ci.render_junit(found))
        if ci.is_worth_a_comment(found):
            _write(self._comment_path, lambda: ci.render_comment(conclusions))
        for name, path in self._exports:
            _write(path, lambda name=name: ci.render_export(name, conclusions))  # type: ignore[misc]
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for line in ci.list_annotations(conclusions):
                typer.echo(line, err=True)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(markdown)


def _write(path: Path | None, render: Callable[[], str]) -> None:
    if path is not None:
        write_result(path, render().encode())


def _parse_export(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if name not in _FORMATS or not separator or not path:
        raise UsageError(
            f"--export {text}: FORMAT=FILE expected",
            next_step=f"Formats: {', '.join(_FORMATS)}.",
        )
    return name, Path(path)
