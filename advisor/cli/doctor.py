"""`bsadvisor doctor`: what this machine can measure, and how well."""

from advisor.cli import options
from advisor.cli.failures import reporting_failures


@reporting_failures
def doctor(
    *,
    device: options.Device = "auto",
    json_path: options.JsonToFile = None,
    verbose: options.Verbose = False,  # noqa: ARG001
) -> None:
    """Print what this machine can measure, and how well."""
    import msgspec

    from advisor.cli.results import is_stdout, refuse_unwritable, write_stdout
    from advisor.session import run_doctor

    if not is_stdout(json_path):
        refuse_unwritable(json_path)
    environment = run_doctor(device)
    document = msgspec.json.format(msgspec.json.encode(environment), indent=2) + b"\n"
    if is_stdout(json_path):
        write_stdout(document)
        return
    if json_path is not None:
        json_path.write_bytes(document)

    from rich.console import Console

    from advisor.report.machine import write_machine

    write_machine(Console(), environment)
