"""`bsadvisor check MODEL`: is it slower or larger than its baseline, or than another revision?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from advisor.cli.baseline import keep
from advisor.cli.configuration import read_policies
from advisor.cli.failures import reporting_failures
from advisor.cli.gate_results import GateFiles
from advisor.cli.options import (
    Against,
    CompiledTraining,
    GateAllowed,
    Results,
    flag,
    make_spec,
    option,
)
from advisor.cli.script import read_workload
from advisor.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class _Checked(Against):
    """What the training is held against, and how."""

    against: str | None = option(
        "Compare with this git revision, measured here and now in turns with what is worked on: "
        "the way for machines that differ from day to day.",
        metavar="REF",
    )
    record_if_missing: bool = flag("Record a baseline where there is none.")
    ratchet: bool = flag("Make an improvement the new baseline.")
    gate_env_changed: bool = flag("Give a verdict where driver, torch or processor changed.")


@reporting_failures
def check(
    *,
    training: CompiledTraining,
    checked: _Checked,
    allowed: Annotated[GateAllowed, "memory_limit_bytes", "budget_s"],
    results: Annotated[Results, "json_path", "markdown_path", "full", "quiet", "verbose"],
    files: GateFiles,
) -> None:
    """Say whether a training became slower or larger: PASS, FAIL or INCONCLUSIVE.

    Without --against it is held against the baseline of this device, which `baseline record` made.
    """
    workload, against = read_workload(training), checked.against
    if against is not None and (checked.baseline or checked.record_if_missing or checked.ratchet):
        raise UsageError(
            "--against measures both sides: it takes no baseline", next_step="Leave one out."
        )

    from msgspec.structs import replace

    from advisor.cli.drive import Output, drive
    from advisor.gate import stage, store, worktrees
    from advisor.gate.data import GATES_STACK, NEW, OLD_NAME, POLICY
    from advisor.gate.plan import COMPARISON
    from advisor.gate.stage import CHECK

    policies = read_policies(Path.cwd())
    output = Output(results, reads=(training.model,), also=files)
    asked = store.Asked(
        path=checked.baseline,
        records_missing=checked.record_if_missing,
        micro_batch_size=checked.micro_batch_size,
    )
    if checked.record_if_missing or checked.ratchet:
        store.refuse_unwritable(asked)
    with worktrees.open_sides(against, workload) as sides:
        for remark in sides.remarks:
            output.remark(remark)
        found = drive(
            CHECK,
            make_spec(sides.new.workload, allowed),
            output,
            asked=(
                (POLICY, policies),
                (GATES_STACK, checked.gate_env_changed),
                (OLD_NAME, against or "the baseline"),
            ),
            held=((stage.ASKED, replace(asked, new=sides.new, old=sides.old)),),
        )
    new, comparison = found.record.all(NEW), found.of(COMPARISON)
    if comparison is None or (checked.ratchet and comparison.outcome == "improved"):
        output.remark(f"baseline written to {keep(found.record, new, asked)}")
