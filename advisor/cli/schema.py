"""`bsadvisor schema`: the JSON Schema of the document."""

from advisor.cli import options
from advisor.cli.failures import reporting_failures


@reporting_failures
def schema(*, verbose: options.Verbose = False) -> None:  # noqa: ARG001
    """Print the JSON Schema of what --json writes."""
    import msgspec

    from advisor.cli.results import write_stdout
    from advisor.record import json_schema

    write_stdout(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2) + b"\n")
