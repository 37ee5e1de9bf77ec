"""`bsadvisor check MODEL`: is it slower or larger than its baseline, or than another revision?"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from advisor.cli import options
from advisor.cli.baseline import keep
from advisor.cli.failures import reporting_failures
from advisor.cli.policy import read_policies
from advisor.cli.script import make_script
from advisor.cli.variants import make_workload, parse_variant
from advisor.errors import UsageError

if TYPE_CHECKING:
    from advisor.training.data import WorkloadSpec


@reporting_failures
def check(
    model: options.ModelOrScript,
    arguments: options.ScriptArguments = None,
    *,
    is_module: options.IsModule = False,
    batch_size_is: options.BatchSizeIs = "micro",
    against: Annotated[
        str | None,
        options.option(
            "--against",
            metavar="REF",
            help="Compare with this git revision, measured here and now in turns with what is "
            "worked on: the way for machines that differ from day to day.",
        ),
    ] = None,
    baseline: options.BaselinePath = None,
    records_missing: Annotated[
        bool,
        options.option("--record-if-missing", help="Record a baseline where there is none."),
    ] = False,
    ratchet: Annotated[
        bool, options.option("--ratchet", help="Make an improvement the new baseline.")
    ] = False,
    gates_stack: Annotated[
        bool,
        options.option(
            "--gate-env-changed", help="Give a verdict where driver, torch or processor changed."
        ),
    ] = False,
    micro_batch_size: options.PinnedBatchSize = None,
    device: options.Device = "auto",
    memory_limit: options.MemoryLimit = None,
    precision: options.Precision = "fp32",
    compile_model: options.CompileOne = "off",
    budget: options.Budget = 600.0,
    seed: options.Seed = 0,
    settings: options.Settings = None,
    json_path: options.JsonFile = None,
    markdown_path: options.MarkdownFile = None,
    comment_path: options.CommentFile = None,
    junit_path: options.JunitFile = None,
    exports: options.Exports = None,
    full: options.Full = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Say whether a training became slower or larger: PASS, FAIL or INCONCLUSIVE.

    Without --against it is held against the baseline of this device, which `baseline record` made.
    """
    variant = parse_variant(precision, compile_model)
    script = make_script(model, arguments, is_module=is_module, batch_size_is=batch_size_is)
    workload = make_workload(
        model, variant, settings=settings, device=device, seed=seed, script=script
    )
    if against is not None and (baseline or records_missing or ratchet):
        raise UsageError(
            "--against measures both sides: it takes no baseline", next_step="Leave one out."
        )

    from advisor.cli.drive import Output, drive
    from advisor.cli.gate_results import GateResults
    from advisor.engine.spec import Limits, Spec
    from advisor.gate import stage, store
    from advisor.gate.data import GATES_STACK, NEW, OLD_NAME, POLICY
    from advisor.gate.plan import COMPARISON
    from advisor.gate.question import BASELINE, CHECK

    policies = read_policies(Path.cwd())
    results = GateResults(comment_path=comment_path, junit_path=junit_path, exports=exports or [])
    output = Output(
        json_path=json_path,
        markdown_path=markdown_path,
        quiet=quiet,
        verbose=verbose,
        full=full,
        reads=(model,),
        also=results.write,
        others=results.paths,
    )
    asked = store.Asked(path=str(baseline or ""), records_missing=records_missing)
    if records_missing or ratchet:
        store.refuse_unwritable(asked)
    with _opening_sides(workload, against) as (sides, remarks):
        for remark in remarks:
            output.remark(remark)
        held: list[tuple[Any, Any]] = [(stage.BASELINE, asked), *sides]
        if micro_batch_size is not None:
            held.append((stage.PINNED, micro_batch_size))
        found = drive(
            CHECK,
            Spec(
                workload=sides[0][1].workload,
                limits=Limits(budget_s=budget, memory_limit_bytes=memory_limit),
            ),
            output,
            asked=(
                (POLICY, policies),
                (GATES_STACK, gates_stack),
                (OLD_NAME, against or "the baseline"),
            ),
            held=held,
        )
    new, comparison = found.record.all(NEW), found.of(COMPARISON)
    if comparison is None or (ratchet and comparison.outcome == "improved"):
        output.remark(f"baseline written to {keep(BASELINE, found.record, new, asked)}")


@contextlib.contextmanager
def _opening_sides(
    workload: "WorkloadSpec", against: str | None
) -> Iterator[tuple[list[tuple[Any, Any]], tuple[str, ...]]]:
    """Yield the sides by their slots, the new one first, and what is to be said of them."""
    import msgspec

    from advisor.gate import stage, worktrees

    if against is None:
        revision = worktrees.describe_revision()
        yield [(stage.NEW_SIDE, stage.Side(workload=workload, revision=revision))], ()
        return
    with worktrees.open_worktrees(against, workload.target) as trees:
        sides = [
            (
                slot,
                stage.Side(
                    workload=msgspec.structs.replace(workload, checkout=checkout),
                    revision=revision,
                ),
            )
            for slot, (checkout, revision) in (
                (stage.NEW_SIDE, trees.new),
                (stage.OLD_SIDE, trees.old),
            )
        ]
        yield [*sides], trees.remarks
