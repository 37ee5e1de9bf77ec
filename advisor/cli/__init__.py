"""The command line: flags to a spec, results to stdout, errors to stderr and an exit code."""

from pathlib import Path
from typing import Annotated

import typer

from advisor import __version__
from advisor.cli import (
    baseline,
    check,
    compare,
    doctor,
    init,
    lr_range,
    noise_floor,
    predict,
    probe,
    report,
    schema,
    verify,
    watch,
)
from advisor.cli.drive import BEGAN_S, find_process_start_s
from advisor.cli.failures import reporting_failures
from advisor.cli.variants import CommandWithVariants
from advisor.errors import UsageError

#: Plain help text: rich's panels would double the time that the help takes.
app = typer.Typer(
    name="bsadvisor",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    probe.probe,
    predict.predict,
    lr_range.lr_range,
    verify.verify,
    report.report,
    schema.schema,
    init.init,
    check.check,
    compare.compare,
):
    app.command(cls=CommandWithVariants)(command)
app.add_typer(baseline.app, name="baseline")
for command in (noise_floor.noise_floor, watch.watch, doctor.doctor):
    app.command(cls=CommandWithVariants)(command)


def _write_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bsadvisor {__version__}")
        raise typer.Exit


@app.callback()
@reporting_failures
def bsadvisor(
    context: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option(
            "--version", callback=_write_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Which batch size, and with it which learning rate, to train with on this GPU."""
    from advisor.cli.configuration import read_defaults

    try:
        folder = Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("the working directory is gone", next_step="Go to another one.") from error
    context.default_map = read_defaults(folder, _parameters(context))


def _parameters(context: typer.Context) -> dict[str, dict[str, str]]:
    """Return, for each command, its parameters by the keys that a project file may use."""
    commands = getattr(context.command, "commands", {})
    return {
        name: {
            max(parameter.opts, key=len).lstrip("-").replace("-", "_"): parameter.name
            for parameter in command.params
        }
        for name, command in commands.items()
    }


def main() -> None:
    """Run the command line, whose process this is, and exit."""
    BEGAN_S.set(find_process_start_s())
    app(prog_name="bsadvisor")
