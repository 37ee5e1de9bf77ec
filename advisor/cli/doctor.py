"""`bsadvisor doctor`: what this machine can measure, and how well."""

from typing import Annotated

from advisor.cli.failures import reporting_failures
from advisor.cli.options import Results, Training


@reporting_failures
def doctor(
    *,
    training: Annotated[Training, "device"],
    output: Annotated[Results, "json_path", "quiet", "verbose"],
) -> None:
    """Print what this machine can measure, and how well."""
    import msgspec

    from advisor.cli.drive import is_stdout, refuse_unwritable, write_result
    from advisor.engine.command import examine

    refuse_unwritable(output.json_path)
    environment = examine(training.device)
    if output.json_path is not None:
        document = msgspec.json.format(msgspec.json.encode(environment), indent=2) + b"\n"
        write_result(output.json_path, document)
    if is_stdout(output.json_path):
        return

    from rich.console import Console

    from advisor.device.tell import tell_machine
    from advisor.report.console import write_facts

    write_facts(Console(), tell_machine(environment))
