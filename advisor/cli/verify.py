"""`bsadvisor verify RUN.json MODEL`: train short branches to test a saved recommendation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli import options
from advisor.cli.failures import reporting_failures
from advisor.cli.quantities import parse_batches
from advisor.errors import InconclusiveError, UsageError

if TYPE_CHECKING:
    from advisor.engine.run_record import RunRecord
    from advisor.verify.data import VerifySpec


@reporting_failures
def verify(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A file that probe wrote with --json.")
    ],
    model: options.Model,
    *,
    seeds: options.VerifySeeds = None,
    samples: options.VerifySamples = None,
    batches: options.VerifyBatches = None,
    checkpoints: options.VerifyCheckpoints = None,
    budget: options.Budget = options.DEFAULT_BUDGET_S,
    restart: options.Restart = False,
    device: options.Device = "auto",
    json_path: options.JsonToFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,  # noqa: ARG001
) -> None:
    """Train short branches at several batches, to test a saved recommendation.

    All start from one state and see as many samples. The run file gains each branch as it ends, so
    the same command goes on where an earlier one stopped.
    """
    from advisor.cli.results import refuse_unwritable
    from advisor.engine.files import read_record
    from advisor.verify.data import VerifySpec

    refuse_unwritable(run)
    if json_path is not None and str(json_path) != "-":
        refuse_unwritable(json_path)
    record = read_record(run)
    spec = VerifySpec(
        target=model,
        device=device,
        seeds=seeds,
        samples=samples,
        batches=parse_batches(batches) if batches else (),
        budget_s=budget,
        restart=restart,
        checkpoint=_choose_checkpoint(checkpoints or []),
    )
    saved = _SavedRun(run, record)
    try:
        _run(saved, spec, quiet=quiet)
    except KeyboardInterrupt:
        if saved.has_grown:
            _write(saved.record, json_path, quiet=quiet)
        raise
    if not _write(saved.record, json_path, quiet=quiet):
        raise typer.Exit(InconclusiveError.exit_code)


def _choose_checkpoint(paths: list[str]) -> str | None:
    """Return the one file; a project file may name several, for the noise of `probe`.

    Raises:
        UsageError: There are several.
    """
    if len(paths) > 1:
        raise UsageError(
            f"verify starts from one checkpoint, not from {len(paths)}: {', '.join(paths)}",
            next_step="Give --checkpoint FILE once.",
        )
    return paths[0] if paths else None


class _SavedRun:
    """The run file as it grows."""

    def __init__(self, path: Path, record: "RunRecord") -> None:
        self._path = path
        self.record = record
        self.has_grown = False

    def save(self, record: "RunRecord") -> None:
        """Replace the file with `record`."""
        from advisor.advice.derive import derive
        from advisor.cli.results import writing
        from advisor.engine.files import write_document

        self.record, self.has_grown = record, True
        with writing(self._path):
            write_document(self._path, record, derive(record))


def _run(saved: _SavedRun, spec: "VerifySpec", *, quiet: bool) -> None:
    from advisor.cli.progress_display import open_progress
    from advisor.verify.stage import run_verify

    with open_progress(quiet=quiet) as progress:
        run_verify(saved.record, spec, progress=progress, save=saved.save)


def _write(record: "RunRecord", json_path: Path | None, *, quiet: bool) -> bool:
    """Print the result; return whether verdict or critical batch are told."""
    from rich.console import Console

    from advisor.advice.derive import derive
    from advisor.cli.results import is_stdout, write_stdout, writing
    from advisor.engine.files import encode_document, write_document
    from advisor.report.terminal import write_told
    from advisor.verify.tell import head_verification, tell_verification

    derived = derive(record)
    if json_path is not None and not is_stdout(json_path):
        with writing(json_path):
            write_document(json_path, record, derived)
    headline = head_verification(derived.verification)
    if is_stdout(json_path):
        write_stdout(encode_document(record, derived))
    else:
        write_told(
            Console(), headline, tell_verification(derived.verification), headline_only=quiet
        )
    return headline.missing is None
