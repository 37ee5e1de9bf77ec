"""`bsadvisor report RUN.json`: draw a saved run or prediction again."""

from dataclasses import dataclass
from typing import Annotated

import typer

from advisor.cli.drive import Output, refuse_no_answer
from advisor.cli.failures import reporting_failures
from advisor.cli.options import Results, flag
from advisor.cli.scenario import OnPaper, build_scenario
from advisor.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class _Listed:
    lists: bool = flag("Print the runs that are kept, and exit.", "--list")


@reporting_failures
def report(
    run: Annotated[
        str,
        typer.Argument(
            metavar="[RUN]",
            help="A file that --json wrote, of any command but doctor; last, or the number of one "
            "that --list prints.",
        ),
    ] = "last",
    *,
    on_paper: OnPaper,
    listed: _Listed,
    results: Annotated[Results, "html_path", "markdown_path", "full", "quiet", "verbose"],
) -> None:
    """Print the report of the last run, or of a saved one.

    It needs neither the model nor a GPU: conclusions are computed again from what was stored, and
    with the options on time, cost and schedule that are given anew.
    """
    from advisor.advice.data import SCENARIO
    from advisor.engine.document import read_record
    from advisor.engine.kept import list_kept, resolve
    from advisor.engine.record import Conclusions
    from advisor.questions import KINDS

    if not listed.lists:
        path = resolve(run)
        kind, record = read_record(path, KINDS)
        if kind.name == "run":
            record = record.replacing(SCENARIO, build_scenario(on_paper, record.get(SCENARIO)))
        conclusions = Conclusions(record)
        Output(results, keeps=False, reads=(path,)).write(kind, conclusions)
        if kind.name == "prediction":
            refuse_no_answer(kind, conclusions)
        return

    from rich.console import Console

    from advisor.report.console import write_table
    from advisor.telling import Column, Table

    rows = []
    for number, path in enumerate(list_kept(), start=1):
        try:
            kind, record = read_record(path, KINDS)
            answer = kind.headline(Conclusions(record)).answer
        except UsageError as error:
            rows.append((str(number), "", "", error.message))
            continue
        moment = record.created_at[:16].replace("T", " ")
        rows.append((str(number), moment, kind.command, answer))
    texts = (Column("UTC", "left"), Column("", "left"), Column("", "left", folds=True))
    table = Table(columns=(Column("#"), *texts), rows=tuple(rows), is_narrow=True)
    write_table(Console(), table)
