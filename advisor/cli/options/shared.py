"""The options that several commands have, each with its help text and its environment variable."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from advisor.cli.quantities import parse_duration, parse_size

#: The names of `advisor.training.data.Precision`, which would cost the help text msgspec's import.
#: The names of `advisor.training.data.Precision`, which would cost the help text msgspec's import.
PrecisionName = Literal["fp32", "tf32", "bf16", "fp16"]

#: Seconds: long enough for every part of a small model, short enough to wait for.
DEFAULT_BUDGET_S = 120.0

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Model file: path.py, path.py:name, or package.module:name."
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="BSADVISOR_DEVICE",
        metavar="NAME",
        help="Device to train on: auto, cpu, mps, cuda or cuda:INDEX.",
    ),
]
Headroom = Annotated[
    int | None,
    typer.Option(
        "--headroom",
        envvar="BSADVISOR_HEADROOM",
        metavar="SIZE",
        parser=parse_size,
        show_default="by device",
        help="Memory kept free below the limit, such as 512MiB.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        envvar="BSADVISOR_PRECISION",
        metavar="fp32|tf32|bf16|fp16",
        help="Arithmetic of the training step; never changed silently.",
    ),
]
Budget = Annotated[
    float,
    typer.Option(
        "--budget",
        envvar="BSADVISOR_BUDGET",
        metavar="TIME",
        parser=parse_duration,
        show_default="120s",
        help="Wall clock for the whole command, such as 90s, 2m or 1h.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        envvar="BSADVISOR_SEED",
        min=0,
        max=2**32 - 1,  # numpy's generator takes no larger seed
        help="Seeds every random generator.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        envvar="BSADVISOR_SET",
        metavar="NAME=VALUE",
        help="Extra parameter of the model file's functions; repeat for more.",
    ),
]
MaxBatch = Annotated[
    int | None,
    typer.Option(
        "--max-batch",
        envvar="BSADVISOR_MAX_BATCH",
        min=1,
        show_default="no cap",
        help="Largest micro-batch worth trying.",
    ),
]
BatchMultiple = Annotated[
    int,
    typer.Option(
        "--batch-multiple",
        envvar="BSADVISOR_BATCH_MULTIPLE",
        min=1,
        help="Try only multiples of this size.",
    ),
]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        envvar="BSADVISOR_JSON",
        metavar="FILE",
        help="Write the JSON document to FILE after each result; - is stdout.",
    ),
]
JsonToFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        envvar="BSADVISOR_JSON",
        metavar="FILE",
        help="Write the result as JSON to FILE; - is stdout.",
    ),
]
HtmlFile = Annotated[
    Path | None,
    typer.Option(
        "--html",
        envvar="BSADVISOR_HTML",
        metavar="FILE",
        help="Also write the report as one self-contained HTML file.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        envvar="BSADVISOR_QUIET",
        help="No progress, and only the headline of the report.",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        envvar="BSADVISOR_VERBOSE",
        help="Show this program's own traceback where it fails.",
    ),
]
