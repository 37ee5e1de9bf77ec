"""A verdict besides the terminal: a comment, JUnit, trackers, and what GitHub shows."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import typer

from advisor.cli.drive import write_result
from advisor.cli.options import option
from advisor.errors import UsageError

if TYPE_CHECKING:
    from advisor.engine.record import Conclusions


@dataclass(frozen=True, kw_only=True)
class GateFiles:
    """Where a verdict goes besides the report.

    On GitHub the summary of the job and its annotations are written without being asked for.
    """

    comment_path: Path | None = option(
        "Write a comment for a pull request, where something changed, with a marker to find the "
        "last one by.",
        "--comment",
    )
    junit_path: Path | None = option(
        "Write a test suite of one case a metric (JUnit XML).", "--junit"
    )
    exports: list[str] | None = option(
        "Write the new side's figures for github-action-benchmark or bencher.",
        "--export",
        metavar="FORMAT=FILE",
    )

    @cached_property
    def paths(self) -> dict[str, Path | None]:
        """All of them by their options; UsageError where a format is not known."""
        from advisor.report.ci import Tracker

        paths = {"--comment": self.comment_path, "--junit": self.junit_path}
        for text in self.exports or ():
            name, _, path = text.partition("=")
            if name not in get_args(Tracker) or not path:
                raise UsageError(
                    f"--export {text}: FORMAT=FILE expected",
                    next_step=f"Formats: {', '.join(get_args(Tracker))}.",
                )
            paths[f"--export {name}"] = Path(path)
        return paths

    def write(self, conclusions: "Conclusions") -> None:
        """Write what was asked for, and what GitHub shows."""
        from advisor.gate.plan import COMPARISON
        from advisor.report import ci

        if conclusions.of(COMPARISON) is None:
            return
        for name, path in self.paths.items():
            if path is None or (name == "--comment" and not ci.is_worth_a_comment(conclusions)):
                continue
            write_result(path, ci.RENDERERS[name](conclusions).encode())
        _show_on_github(conclusions)


def _show_on_github(conclusions: "Conclusions") -> None:
    from advisor.gate.stage import CHECK
    from advisor.report import ci
    from advisor.report.markdown import render_markdown

    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in ci.list_annotations(conclusions):
            typer.echo(line, err=True)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(summary).open("a", encoding="utf-8") as file:  # after the steps before
                file.write(f"{render_markdown(CHECK, conclusions)}\n")
        except OSError as error:  # which changes no verdict
            why = error.strerror
            typer.echo(f"the summary of the job cannot be written: {why}", err=True)
