"""`bsadvisor compare A.json B.json`: two saved measurements, without model or device."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from advisor.cli.configuration import read_policies
from advisor.cli.failures import reporting_failures
from advisor.cli.gate_results import GateFiles
from advisor.cli.options import Results, flag, option
from advisor.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """What is compared, and how."""

    new: list[Path] | None = option(
        "Of the new side, where it has several; repeat for more.", metavar="FILE"
    )
    micro_batch_size: int | None = option(
        "Of runs of probe: the batch to compare at.",
        show_default="the base batch, else the largest that all timed",
    )
    gate_env_changed: bool = flag("Give a verdict where driver, torch or processor changed.")


@reporting_failures
def compare(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="OLD... NEW",
            help="Files of baseline, check, or probe --json; the last is the new side.",
        ),
    ],
    *,
    compared: _Compared,
    results: Annotated[Results, "json_path", "markdown_path", "full", "quiet", "verbose"],
    gate_files: GateFiles,
) -> None:
    """Say whether what was measured the second time is slower or larger than the first."""
    from advisor.engine.kept import resolve

    files, new = [resolve(each) for each in files], [resolve(each) for each in compared.new or ()]
    old_files, new_files = (files, new) if new else (files[:-1], files[-1:])
    if not old_files or not new_files:
        raise UsageError(
            "one file alone cannot be compared", next_step="bsadvisor compare OLD.json NEW.json"
        )

    from msgspec.structs import replace

    from advisor.cli.drive import Output, refuse_no_answer
    from advisor.engine.document import read_record
    from advisor.engine.record import Conclusions, open_record
    from advisor.engine.spec import Spec
    from advisor.gate.data import GATES_STACK, NEW, OLD, OLD_NAME, POLICY
    from advisor.gate.reading import choose_common_size, read_occasions
    from advisor.gate.stage import CHECK
    from advisor.questions import KINDS
    from advisor.training.data import WorkloadSpec

    paths = (*old_files, *new_files)
    output = Output(results, reads=paths, also=gate_files)
    records = [read_record(path, KINDS)[1] for path in paths]
    size = compared.micro_batch_size or choose_common_size(records)
    occasions = [read_occasions(record, size) for record in records]
    spec = Spec(workload=WorkloadSpec(target=occasions[0][0].setting.target))
    record = open_record(CHECK.record_type, spec, kind=CHECK.name, argv=tuple(sys.argv))
    changes = {
        OLD.name: tuple(each for side in occasions[: len(old_files)] for each in side),
        NEW.name: tuple(each for side in occasions[len(old_files) :] for each in side),
        POLICY.name: read_policies(Path.cwd()),
        GATES_STACK.name: compared.gate_env_changed,
        OLD_NAME.name: old_files[0].name,
    }
    conclusions = Conclusions(replace(record, complete=True, **changes))
    output.write(CHECK, conclusions)
    refuse_no_answer(CHECK, conclusions)
