"""`bsadvisor doctor`: what this machine can measure, and how well."""

from advisor.cli import options
from advisor.cli.failures import reporting_failures


@reporting_failures
def doctor(
    *,
    device: options.Device = "auto",
    json_path: options.JsonToFile = None,
    quiet: options.Quiet = False,  # noqa: ARG001
    verbose: options.Verbose = False,  # noqa: ARG001
) -> None:
    """Print what this machine can measure, and how well."""
    import msgspec

    from advisor.cli.drive import is_stdout, refuse_unwritable, write_result
    from advisor.engine.command import examine

    refuse_unwritable(json_path)
    environment = examine(device)
    if json_path is not None:
        document = msgspec.json.format(msgspec.json.encode(environment), indent=2) + b"\n"
        write_result(json_path, document)
    if is_stdout(json_path):
        return

    from rich.console import Console

    from advisor.device.tell import tell_machine
    from advisor.report.console import write_facts

    write_facts(Console(), tell_machine(environment))
