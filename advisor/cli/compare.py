"""`bsadvisor compare A.json B.json`: two saved measurements, without model or device."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from advisor.cli import options
from advisor.cli.failures import reporting_failures
from advisor.cli.policy import read_policies
from advisor.errors import UsageError


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
    new: Annotated[
        list[Path] | None,
        options.option(
            "--new", metavar="FILE", help="Of the new side, where it has several; repeat for more."
        ),
    ] = None,
    micro_batch_size: Annotated[
        int | None,
        options.option(
            "--micro-batch-size",
            metavar="N",
            min=1,
            show_default="the base batch, else the largest that all timed",
            help="Of runs of probe: the batch to compare at.",
        ),
    ] = None,
    gates_stack: Annotated[
        bool,
        options.option(
            "--gate-env-changed", help="Give a verdict where driver, torch or processor changed."
        ),
    ] = False,
    json_path: options.JsonToFile = None,
    markdown_path: options.MarkdownFile = None,
    comment_path: options.CommentFile = None,
    junit_path: options.JunitFile = None,
    exports: options.Exports = None,
    full: options.Full = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Say whether what was measured the second time is slower or larger than the first."""
    from advisor.engine.kept import resolve

    files, new = [resolve(each) for each in files], [resolve(each) for each in new or ()]
    old_files, new_files = (files, new) if new else (files[:-1], files[-1:])
    if not old_files or not new_files:
        raise UsageError(
            "one file alone cannot be compared", next_step="bsadvisor compare OLD.json NEW.json"
        )

    import msgspec

    from advisor.cli.drive import Output, refuse_no_answer
    from advisor.cli.gate_results import GateResults
    from advisor.engine.conclusions import Conclusions
    from advisor.engine.document import read_record
    from advisor.engine.record import open_record
    from advisor.engine.spec import Spec
    from advisor.gate.data import GATES_STACK, NEW, OLD, OLD_NAME, POLICY
    from advisor.gate.question import CHECK
    from advisor.gate.reading import choose_common_size, read_occasions
    from advisor.questions import KINDS
    from advisor.training.data import WorkloadSpec

    results = GateResults(comment_path=comment_path, junit_path=junit_path, exports=exports or [])
    output = Output(
        json_path=json_path,
        markdown_path=markdown_path,
        quiet=quiet,
        verbose=verbose,
        full=full,
        reads=(*old_files, *new_files),
        also=results.write,
        others=results.paths,
    )
    records = [read_record(path, KINDS)[1] for path in (*old_files, *new_files)]
    size = micro_batch_size or choose_common_size(records)
    occasions = [read_occasions(record, size) for record in records]
    spec = Spec(workload=WorkloadSpec(target=occasions[0][0].setting.target))
    record = open_record(CHECK.record_type, spec, kind=CHECK.name, argv=tuple(sys.argv))
    keyed: dict[Any, Any] = {
        OLD: tuple(each for side in occasions[: len(old_files)] for each in side),
        NEW: tuple(each for side in occasions[len(old_files) :] for each in side),
        POLICY: read_policies(Path.cwd()),
        GATES_STACK: gates_stack,
        OLD_NAME: old_files[0].name,
    }
    changes = {key.name: value for key, value in keyed.items()}
    conclusions = Conclusions(msgspec.structs.replace(record, complete=True, **changes))
    output.write(CHECK, conclusions)
    refuse_no_answer(CHECK, conclusions)
