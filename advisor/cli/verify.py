"""`bsadvisor verify RUN.json MODEL`: train short branches to test a saved recommendation."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli.failures import reporting_failures
from advisor.cli.options import Allowed, Model, Results, Training, flag, option
from advisor.cli.quantities import parse_counts
from advisor.cli.script import refuse_script
from advisor.errors import InconclusiveError, UsageError

if TYPE_CHECKING:
    from advisor.engine.record import Record


@dataclass(frozen=True, kw_only=True)
class _Branches:
    """What is trained."""

    seeds: int | None = option(
        "Orders of the data with which each batch is trained.",
        min=2,
        show_default="3, more where needed",
    )
    branch_samples: int | None = option(
        "Samples on which each branch trains.", show_default="by budget"
    )
    batches: str | None = option(
        "Global batches to train, besides the recommended one.",
        metavar="N[,N...]",
        show_default="1/4 to 4 times the recommended one",
    )
    checkpoints: list[str] | None = option(
        "Start the branches from these saved weights, not from a short training.",
        "--checkpoint",
        metavar="FILE",
    )
    restart: bool = flag("Train every branch again, also those that are stored.")


@reporting_failures
def verify(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A file that probe wrote with --json.")
    ],
    model: Model,
    *,
    branches: _Branches,
    allowed: Annotated[Allowed, "budget_s"],
    training: Annotated[Training, "device"],
    results: Annotated[Results, "json_path", "full", "quiet", "verbose"],
) -> None:
    """Train short branches at several batches, to test a saved recommendation.

    All start from one state and see as many samples. The run file gains each branch as it ends, so
    the same command goes on where an earlier one stopped.
    """
    from advisor.cli.drive import Output, refuse_unwritable
    from advisor.cli.progress_display import open_progress
    from advisor.engine.files import is_stream
    from advisor.engine.kept import resolve
    from advisor.engine.record import Conclusions
    from advisor.questions import RUN, read_run
    from advisor.verify.data import VerifySpec
    from advisor.verify.stage import VERIFIED, run_verify

    refuse_script(model, "verify")
    run = resolve(run, "run")
    refuse_unwritable(run)
    if is_stream(run):
        raise UsageError(
            f"{run} is no file that branches can be added to",
            next_step="Name the file that probe wrote with --json.",
        )
    checkpoints, batches = branches.checkpoints or [], branches.batches
    output = Output(results, reads=(model, *checkpoints))
    record = read_run(run)
    if record.workload is not None and record.workload.script is not None:
        raise UsageError(
            f"{run} is the run of a training script; verify takes one of a model file",
            next_step="probe trains other pairs beside the script's own, in the script itself.",
        )
    what = "a batch size; write whole numbers such as 64,128,256"
    spec = VerifySpec(
        target=model,
        device=training.device,
        seeds=branches.seeds,
        samples=branches.branch_samples,
        batches=parse_counts(batches, option="--batches", what=what) if batches else (),
        budget_s=allowed.budget_s or 0.0,
        restart=branches.restart,
        checkpoint=_choose_checkpoint(checkpoints),
    )
    file, latest = Output(Results(json_path=run)), list[Conclusions]()

    def save(record: "Record") -> None:
        latest[:] = [Conclusions(record)]
        file.save(RUN, latest[0])

    try:
        with open_progress(quiet=results.quiet) as progress:
            run_verify(record, spec, progress=progress, save=save)
    finally:
        if latest:
            file.save(RUN, latest[0], is_last=True)
            output.write(RUN, latest[0], shown=VERIFIED)
    if VERIFIED.headline(latest[0]).missing is not None:
        raise typer.Exit(InconclusiveError.exit_code)


def _choose_checkpoint(paths: list[str]) -> str | None:
    """Return the one file; a project file may name several, for the noise of `probe`."""
    if len(paths) > 1:
        raise UsageError(
            f"verify starts from one checkpoint, not from {len(paths)}: {', '.join(paths)}",
            next_step="Give --checkpoint FILE once.",
        )
    return paths[0] if paths else None
