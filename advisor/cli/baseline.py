"""`bsadvisor baseline record MODEL` and `baseline show`: what later checks are held against."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli import options
from advisor.cli.failures import reporting_failures
from advisor.cli.quantities import parse_duration
from advisor.cli.script import make_script
from advisor.cli.variants import make_workload, parse_variant

if TYPE_CHECKING:
    from advisor.engine.question import Kind
    from advisor.engine.record import Record
    from advisor.gate.data import Occasion

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Record or show what checks are held against."
)


@app.command("record")
@reporting_failures
def record(
    model: options.ModelOrScript,
    arguments: options.ScriptArguments = None,
    *,
    is_module: options.IsModule = False,
    batch_size_is: options.BatchSizeIs = "micro",
    micro_batch_size: options.PinnedBatchSize = None,
    sessions: Annotated[
        int, options.option("--sessions", min=2, max=100, help="Processes that are timed.")
    ] = 10,
    over: Annotated[
        float | None,
        options.option(
            "--over",
            metavar="TIME",
            parser=parse_duration,
            show_default="one after the other",
            help="Time over which the sessions are spread, as 1h: what the machine does meanwhile "
            "is in the spread that a check allows for.",
        ),
    ] = None,
    adds: Annotated[
        bool, options.option("--add", help="Add an occasion to those of the same stack.")
    ] = False,
    baseline: options.BaselinePath = None,
    device: options.Device = "auto",
    memory_limit: options.MemoryLimit = None,
    precision: options.Precision = "fp32",
    compile_model: options.CompileOne = "off",
    budget: options.Budget = 600.0,
    seed: options.Seed = 0,
    settings: options.Settings = None,
    json_path: options.JsonFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure what later checks are held against, and keep it for this device and training."""
    variant = parse_variant(precision, compile_model)
    script = make_script(model, arguments, is_module=is_module, batch_size_is=batch_size_is)
    workload = make_workload(
        model, variant, settings=settings, device=device, seed=seed, script=script
    )

    from advisor.cli.drive import Output, drive
    from advisor.engine.spec import Limits, Spec
    from advisor.gate import stage, store, worktrees
    from advisor.gate.data import OCCASIONS
    from advisor.gate.question import BASELINE

    asked = store.Asked(path=str(baseline or ""), sessions=sessions, over_s=over or 0.0, adds=adds)
    store.refuse_unwritable(asked)
    side = stage.Side(workload=workload, revision=worktrees.describe_revision())
    found = drive(
        BASELINE,
        Spec(
            workload=workload,
            limits=Limits(budget_s=budget + (over or 0.0), memory_limit_bytes=memory_limit),
        ),
        Output(json_path=json_path, quiet=quiet, verbose=verbose, reads=(model,)),
        held=(
            (stage.BASELINE, asked),
            (stage.NEW_SIDE, side),
            *(((stage.PINNED, micro_batch_size),) if micro_batch_size else ()),
        ),
    )
    path = keep(BASELINE, found.record, found.record.all(OCCASIONS), asked)
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
    from advisor.report.console import write_part
    from advisor.telling import Headline

    asked = store.Asked(path=str(path or ""))
    named = [path] if path is not None and not path.is_dir() else []
    paths = named or sorted(store.find_folder(asked).glob("*.json"))
    if not paths:
        raise NoBaselineError(
            f"there is no baseline in {store.find_folder(asked)}",
            next_step="Record one: bsadvisor baseline record MODEL",
        )
    for each in paths:
        write_part(Console(), Headline(answer=str(each)), describe_baseline(store.read(each)))


def keep(kind: "Kind", record: "Record", occasions: "tuple[Occasion, ...]", asked: object) -> Path:
    """Write the occasions as the baseline of their setting, and return where."""
    import msgspec

    from advisor.engine.conclusions import Conclusions
    from advisor.engine.document import encode_document
    from advisor.engine.record import Record
    from advisor.gate import store
    from advisor.gate.data import OCCASIONS

    assert isinstance(asked, store.Asked)
    shared = {name: getattr(record, name) for name in Record.__struct_fields__}
    made = kind.record_type(**{**shared, "kind": kind.name, OCCASIONS.name: occasions})
    path = store.choose_path(asked, occasions[0].setting)
    store.save(path, encode_document(kind, Conclusions(msgspec.structs.replace(made))))
    return path
