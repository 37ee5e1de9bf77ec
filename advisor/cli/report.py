"""`bsadvisor report RUN.json`: draw a saved run again."""

from pathlib import Path
from typing import Annotated

import typer

from advisor.cli import options
from advisor.cli.failures import reporting_failures


@reporting_failures
def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A file that bsadvisor probe --json wrote.")
    ],
    *,
    html_path: options.HtmlFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,  # noqa: ARG001
) -> None:
    """Print the report of a saved run.

    It needs neither the model nor a GPU: conclusions are computed again from the measurements.
    """
    from advisor.cli.results import Results
    from advisor.record import read_record

    results = Results(json_path=None, html_path=html_path, quiet=quiet)
    results.save(read_record(run))
    results.write()
