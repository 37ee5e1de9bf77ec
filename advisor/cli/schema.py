"""`bsadvisor schema`: the JSON Schema of the document."""

from typing import Annotated, Literal

import typer

from advisor.cli.failures import reporting_failures
from advisor.cli.options import Results


@reporting_failures
def schema(
    kind: Annotated[
        Literal["run", "prediction", "lr-range", "self-comparison", "baseline", "check"],
        typer.Argument(
            metavar="KIND",
            help="run: what probe writes; prediction: what predict writes; lr-range: its own; "
            "self-comparison: what noise-floor writes; baseline and check: theirs.",
        ),
    ] = "run",
    *,
    _results: Annotated[Results, "verbose"],
) -> None:
    """Print the JSON Schema of what --json writes."""
    import msgspec

    from advisor.cli.drive import write_stdout
    from advisor.engine.document import json_schema
    from advisor.questions import KINDS

    document = msgspec.json.encode(json_schema(KINDS[kind]))
    write_stdout(msgspec.json.format(document, indent=2) + b"\n")
