"""`bsadvisor init`: a model file to start from."""

from pathlib import Path
from typing import Annotated

import typer

from advisor.cli import options
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
    try:
        with path.open("wb" if force else "xb") as stream:
            stream.write(TEMPLATE.read_bytes())
    except FileExistsError as error:
        raise UsageError(
            f"{path} is already there", next_step="Name another file, or add --force."
        ) from error
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", next_step="Name another file."
        ) from error
    typer.echo(f"Wrote {path}. Next: bsadvisor probe {path}")
