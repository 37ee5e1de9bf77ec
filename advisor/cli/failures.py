"""Every failure as one short paragraph on stderr and an exit code."""

import errno
import functools
import shlex
import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer

from advisor.cli.options import spread_groups
from advisor.errors import AdvisorError, InternalError, UsageError

#: What a shell expects of a program that Ctrl-C ended: 128 + SIGINT.
EXIT_INTERRUPTED = 130
#: Of a disk on which nothing more can be written, whatever it was.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def reporting_failures(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command`, which typer can call, with its failures told and turned into exit codes."""
    spread = spread_groups(command)

    @functools.wraps(spread)
    def guarded(**values: Any) -> None:
        try:
            spread(**values)
        except KeyboardInterrupt as error:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from error
        except BrokenPipeError:
            raise  # the reader of stdout has gone; click ends quietly
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                error = UsageError(
                    f"cannot write: {error.strerror}", next_step="Make room, and start it again."
                )
            if type(error).__module__.partition(".")[0] in {"typer", "click"}:
                raise  # usage errors and exits, which typer reports itself
            if isinstance(error, AdvisorError) and not isinstance(error, InternalError):
                write_failure(error)
                raise typer.Exit(error.exit_code) from error
            _write_fault(error, verbose=bool(values.get("verbose")))
            raise typer.Exit(InternalError.exit_code) from error

    return guarded


def write_failure(error: AdvisorError) -> None:
    """Write the user's own traceback, if any, then what happened and what to do."""
    from advisor.report.encoding import hide_controls

    if error.traceback:
        typer.echo(error.traceback.rstrip("\n") + "\n", err=True)
    typer.echo(f"bsadvisor: {_sentence(hide_controls(error.message))}", err=True)
    if error.next_step:
        typer.echo(_sentence(hide_controls(error.next_step)), err=True)


def _write_fault(error: Exception, *, verbose: bool) -> None:
    """Write that this program failed; its traceback only where `verbose` asks for it.

    A fault in a worker brings the worker's traceback with it, which tells more than the parent's.
    """
    told = error if isinstance(error, InternalError) else None
    if verbose:
        frames = (told and told.traceback) or "".join(traceback.format_exception(error))
        typer.echo(frames.rstrip("\n") + "\n", err=True)
    message = told.message if told else f"{type(error).__name__}: {error}".splitlines()[0]
    typer.echo(f"bsadvisor: a fault in bsadvisor itself: {_sentence(message)}", err=True)
    if told and told.next_step:
        typer.echo(_sentence(told.next_step), err=True)
    hint = "" if verbose else " with what -v prints"
    command = shlex.join(["bsadvisor", *sys.argv[1:]])
    typer.echo(f"Please report it{hint}, and the command: {command}", err=True)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", ":")) or "\n" in text else f"{text}."
