"""`bsadvisor init`: a model file to start from."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from advisor.cli.drive import is_stdout, refuse_unwritable, write_result
from advisor.cli.failures import reporting_failures
from advisor.cli.options import Results, flag
from advisor.errors import UsageError

#: Shipped next to this file; it runs as it is.
TEMPLATE = Path(__file__).parent / "templates" / "model.py.template"


@dataclass(frozen=True, kw_only=True)
class _Written:
    force: bool = flag("Overwrite a file that is there.")


@reporting_failures
def init(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="The file to write.", show_default=True)
    ] = Path("model.py"),
    *,
    written: _Written,
    _results: Annotated[Results, "verbose"],
) -> None:
    """Write a commented model file that runs as it is."""
    if os.path.lexists(path) and not written.force:
        raise UsageError(f"{path} is already there", next_step="Name another file, or add --force.")
    refuse_unwritable(path)
    write_result(path, TEMPLATE.read_bytes())
    typer.echo(f"Wrote {path}. Next: bsadvisor probe {path}", err=is_stdout(path))
