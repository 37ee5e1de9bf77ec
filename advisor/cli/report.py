"""`bsadvisor report RUN.json`: draw a saved run or prediction again."""

from typing import Annotated

import typer

from advisor.cli import options, scenario
from advisor.cli.drive import Output, refuse_no_answer
from advisor.cli.failures import reporting_failures


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
    gpus: scenario.GpuCounts = None,
    price: scenario.Price = None,
    interconnect: scenario.InterconnectName = None,
    samples: scenario.Samples = None,
    epochs: scenario.Epochs = None,
    milestones: scenario.Milestones = None,
    gamma: scenario.Gamma = None,
    cosine: scenario.Cosine = None,
    lists: Annotated[
        bool, options.option("--list", help="Print the runs that are kept, and exit.")
    ] = False,
    full: options.Full = False,
    html_path: options.HtmlFile = None,
    markdown_path: options.MarkdownFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Print the report of the last run, or of a saved one.

    It needs neither the model nor a GPU: conclusions are computed again from what was stored, and
    with the options on time, cost and schedule that are given anew.
    """
    from advisor.advice.data import SCENARIO
    from advisor.engine.conclusions import Conclusions
    from advisor.engine.document import read_record
    from advisor.engine.kept import resolve
    from advisor.questions import KINDS

    if lists:
        _print_kept()
        return
    path = resolve(run)
    kind, record = read_record(path, KINDS)
    if kind.name == "run":
        on_paper = scenario.build_scenario(
            record.get(SCENARIO),
            gpus=gpus,
            price=price,
            interconnect=interconnect,
            samples=samples,
            epochs=epochs,
            milestones=milestones,
            gamma=gamma,
            cosine=cosine,
        )
        record = record.setting(SCENARIO, on_paper)
    conclusions = Conclusions(record)
    output = Output(
        html_path=html_path,
        markdown_path=markdown_path,
        quiet=quiet,
        full=full,
        verbose=verbose,
        keeps=False,
        reads=(path,),
    )
    output.write(kind, conclusions)
    if kind.name == "prediction":
        refuse_no_answer(kind, conclusions)


def _print_kept() -> None:
    from rich.console import Console, Group

    from advisor.engine.conclusions import Conclusions
    from advisor.engine.document import read_record
    from advisor.engine.kept import list_kept
    from advisor.errors import UsageError
    from advisor.questions import KINDS
    from advisor.report.encoding import write_encodable
    from advisor.report.tables import draw_table
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
    write_encodable(Console(), Group(*draw_table(table)))
