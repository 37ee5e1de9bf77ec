"""`bsadvisor init`: a model file to start from."""

import os
from pathlib import Path
from typing import Annotated

import typer

from advisor.cli import options
from advisor.cli.drive import is_stdout, refuse_unwritable, write_result
from advisor.cli.failures import reporting_failures
from advisor.errors import UsageError

#: Shipped next to this file; it runs as it is.
TEMPLATE = Path(__file__).parent / "templates" / "model.py.template"


@reporting_failures
def init(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="The file to write.", show_default=True)
    ] = Path("model.py"),
    *,
    force: Annotated[
        bool,
        typer.Option("--force", envvar="BSADVISOR_FORCE", help="Overwrite a file that is there."),
    ] = False,
    verbose: options.Verbose = False,  # noqa: ARG001
) -> None:
    """Write a commented model file that runs as it is."""
    if os.path.lexists(path) and not force:
        raise UsageError(f"{path} is already there", next_step="Name another file, or add --force.")
    refuse_unwritable(path)
    write_result(path, TEMPLATE.read_bytes())
    typer.echo(f"Wrote {path}. Next: bsadvisor probe {path}", err=is_stdout(path))
