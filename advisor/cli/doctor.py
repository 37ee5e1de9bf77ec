"""`bsadvisor doctor`: what this machine can measure, and how well."""

from pathlib import Path
from typing import TYPE_CHECKING

from advisor.cli.failures import reporting_failures
from advisor.cli.options import doctor as own
from advisor.cli.options import shared

if TYPE_CHECKING:
    import msgspec
    from rich.console import Console


@reporting_failures
def doctor(
    *,
    device: shared.Device = "auto",
    aa: own.Aa = None,
    micro_batch_size: own.AaBatchSize = None,
    budget: shared.Budget = shared.DEFAULT_BUDGET_S,
    json_path: shared.JsonToFile = None,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,  # noqa: ARG001
) -> None:
    """Print what this machine can measure, and how well."""
    from advisor.cli.results import is_stdout, refuse_unwritable

    if not is_stdout(json_path):
        refuse_unwritable(json_path)
    if aa is None:
        _examine(device, json_path)
    else:
        _compare(aa, device, micro_batch_size, budget, json_path, quiet=quiet)


def _examine(device: str, json_path: Path | None) -> None:
    from advisor.report.machine import write_machine
    from advisor.session import run_doctor

    environment = run_doctor(device)
    if _write_document(environment, json_path):
        write_machine(_open_console(), environment)


def _compare(
    target: str,
    device: str,
    micro_batch_size: int | None,
    budget_s: float,
    json_path: Path | None,
    *,
    quiet: bool,
) -> None:
    from advisor.cli.progress_display import open_progress
    from advisor.report.self_comparison import write_self_comparison
    from advisor.session import run_self_comparison
    from advisor.spec import WorkloadSpec

    with open_progress(quiet=quiet) as progress:
        record = run_self_comparison(
            WorkloadSpec(target=target, device=device),
            micro_batch_size=micro_batch_size,
            budget_s=budget_s,
            progress=progress,
        )
    if _write_document(record, json_path):
        write_self_comparison(_open_console(), record.derived)


def _write_document(record: "msgspec.Struct", json_path: Path | None) -> bool:
    """Write the JSON document where it was asked for; return whether stdout is left for people."""
    import msgspec

    from advisor.cli.results import is_stdout, write_stdout

    document = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
    if is_stdout(json_path):
        write_stdout(document)
        return False
    if json_path is not None:
        json_path.write_bytes(document)
    return True


def _open_console() -> "Console":
    from rich.console import Console

    return Console()
