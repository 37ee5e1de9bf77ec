"""`bsadvisor baseline record MODEL` and `baseline show`: what later checks are held against."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli.failures import reporting_failures
from advisor.cli.options import (
    Against,
    CompiledTraining,
    GateAllowed,
    Results,
    flag,
    make_spec,
    option,
)
from advisor.cli.quantities import parse_duration
from advisor.cli.script import read_workload

if TYPE_CHECKING:
    from advisor.engine.record import Record
    from advisor.gate.data import Occasion
    from advisor.gate.store import Asked

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Record or show what checks are held against."
)


@dataclass(frozen=True, kw_only=True)
class _Recorded(Against):
    """How a baseline is made."""

    sessions: int = option("Processes that are timed.", default=10, min=2, max=100)
    over: float | None = option(
        "Time over which the sessions are spread, as 1h: what the machine does meanwhile is in the "
        "spread that a check allows for.",
        metavar="TIME",
        parser=parse_duration,
        show_default="one after the other",
    )
    adds: bool = flag("Add an occasion to those of the same stack.", "--add")


@app.command("record")
@reporting_failures
def record(
    *,
    training: CompiledTraining,
    recorded: _Recorded,
    allowed: Annotated[GateAllowed, "memory_limit_bytes", "budget_s"],
    results: Annotated[Results, "json_path", "quiet", "verbose"],
) -> None:
    """Measure what later checks are held against, and keep it for this device and training."""
    workload = read_workload(training)

    from advisor.cli.drive import Output, drive
    from advisor.gate import stage, store, worktrees
    from advisor.gate.data import OCCASIONS
    from advisor.gate.stage import BASELINE

    asked = store.Asked(
        path=recorded.baseline,
        sessions=recorded.sessions,
        over_s=recorded.over or 0.0,
        adds=recorded.adds,
        new=worktrees.see_side(workload),
        micro_batch_size=recorded.micro_batch_size,
    )
    store.refuse_unwritable(asked)
    longer = replace(allowed, budget_s=(allowed.budget_s or 0.0) + asked.over_s)
    found = drive(
        BASELINE,
        make_spec(workload, longer),
        Output(results, reads=(training.model,)),
        held=((stage.ASKED, asked),),
    )
    path = keep(found.record, found.record.all(OCCASIONS), asked)
    typer.echo(f"written to {path}", err=True)


@app.command("show")
@reporting_failures
def show(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="[PATH]", show_default="the project's", help="A file or folder."),
    ] = None,
) -> None:
    """Print the baselines that are kept here."""
    from rich.console import Console

    from advisor.errors import NoBaselineError
    from advisor.gate import store
    from advisor.gate.tell_baseline import describe_baseline
    from advisor.report.console import draw_part
    from advisor.report.encoding import write_encodable
    from advisor.telling import Headline

    asked = store.Asked(path=path)
    named = [path] if path is not None and not path.is_dir() else []
    paths = named or sorted(asked.folder.glob("*.json"))
    if not paths:
        raise NoBaselineError(
            f"there is no baseline in {asked.folder}",
            next_step="Record one: bsadvisor baseline record MODEL",
        )
    for each in paths:
        part = draw_part(Headline(answer=str(each)), describe_baseline(store.read(each)))
        write_encodable(Console(), part)


def keep(record: "Record", occasions: "tuple[Occasion, ...]", asked: "Asked") -> Path:
    """Write the occasions as the baseline of their setting, and return where."""
    from advisor.engine.document import encode_document
    from advisor.engine.record import Conclusions, Record
    from advisor.gate import store
    from advisor.gate.data import OCCASIONS
    from advisor.gate.stage import BASELINE

    shared = {name: getattr(record, name) for name in Record.__struct_fields__}
    own = {"kind": BASELINE.name, OCCASIONS.name: occasions}
    made = BASELINE.record_type(**{**shared, **own})
    path = store.choose_path(asked, occasions[0].setting)
    store.save(path, encode_document(BASELINE, Conclusions(made)))
    return path
