"""What options are made of, and those of several commands; others stand beside their command."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from advisor.cli.quantities import parse_duration, parse_memory_limit, parse_size

#: The names of `advisor.training.data.Precision`, which would cost the help text msgspec's import.
PrecisionName = Literal["fp32", "tf32", "bf16", "fp16"]

#: Seconds: long enough for every part of a small model, short enough to wait for.
DEFAULT_BUDGET_S = 120.0


def option(*names: str, help: str, **more: Any) -> Any:  # noqa: A002 - typer's word
    """Return an option with its help text and `BSADVISOR_NAME` as its environment variable."""
    variable = "BSADVISOR_" + max(names, key=len).lstrip("-").replace("-", "_").upper()
    return typer.Option(*names, envvar=variable, help=help, **more)


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Model file: path.py, path.py:name, or package.module:name."
    ),
]
ModelOrScript = Annotated[
    str,
    typer.Argument(
        metavar="MODEL|SCRIPT",
        help="Model file (path.py, path.py:name, or package.module:name), or the script that you "
        "train with.",
    ),
]
ScriptArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[-- ARGS...]",
        help="The script's own arguments, with {batch_size}, {learning_rate}, {accumulation} and "
        "{seed} where it takes them.",
    ),
]
IsModule = Annotated[
    bool, option("-m", "--module", help="The script is a module, as after python -m.")
]
BatchSizeIs = Annotated[
    Literal["micro", "global"],
    option(
        "--batch-size-is",
        help="Whether {batch_size} is the batch of one backward pass of one process, or of an "
        "optimizer step.",
    ),
]
Device = Annotated[
    str,
    option(
        "--device", metavar="NAME", help="Device to train on: auto, cpu, mps, cuda or cuda:INDEX."
    ),
]
MemoryLimit = Annotated[
    int | None,
    option(
        "--memory-limit",
        metavar="SIZE",
        parser=parse_memory_limit,
        show_default="what the device has",
        help="Memory that training may take, such as 10GiB.",
    ),
]
Headroom = Annotated[
    int | None,
    option(
        "--headroom",
        metavar="SIZE",
        parser=parse_size,
        show_default="by device",
        help="Memory kept free below the limit, such as 512MiB.",
    ),
]
Precision = Annotated[
    str,
    option(
        "--precision",
        metavar="fp32|tf32|bf16|fp16",
        help="Arithmetic of the training step; never changed silently.",
    ),
]
Budget = Annotated[
    float,
    option(
        "--budget",
        metavar="TIME",
        parser=parse_duration,
        show_default="120s",
        help="Wall clock for the whole command, such as 90s, 2m or 1h.",
    ),
]
Seed = Annotated[int, option("--seed", min=0, max=2**32 - 1, help="Seeds every random generator.")]
Settings = Annotated[
    list[str] | None,
    option(
        "--set",
        metavar="NAME=VALUE",
        help="Extra parameter of the model file's functions; repeat for more.",
    ),
]
MaxBatch = Annotated[
    int | None,
    option("--max-batch", min=1, show_default="no cap", help="Largest micro-batch worth trying."),
]
BatchMultiple = Annotated[
    int, option("--batch-multiple", min=1, help="Try only multiples of this size.")
]
JsonFile = Annotated[
    Path | None,
    option(
        "--json",
        metavar="FILE",
        help="Write the JSON document to FILE after each result; - is stdout.",
    ),
]
JsonToFile = Annotated[
    Path | None,
    option("--json", metavar="FILE", help="Write the result as JSON to FILE; - is stdout."),
]
HtmlFile = Annotated[
    Path | None,
    option(
        "--html",
        metavar="FILE",
        help="Also write the report as one self-contained HTML file; - is stdout.",
    ),
]
Full = Annotated[bool, option("--full", help="Print the full report, not only its first screen.")]
MarkdownFile = Annotated[
    Path | None,
    option("--markdown", metavar="FILE", help="Write the first screen as Markdown; - is stdout."),
]
Quiet = Annotated[
    bool, option("--quiet", "-q", help="No progress, and only the headline of the report.")
]
Verbose = Annotated[
    bool,
    option(
        "--verbose",
        "-v",
        help="Print the full report, this program's own traceback where it fails, and what a "
        "script prints.",
    ),
]

# Of check, baseline and compare
PinnedBatchSize = Annotated[
    int | None,
    option(
        "--micro-batch-size",
        metavar="N",
        min=1,
        show_default="the base batch, or 32",
        help="Samples of each step that is timed.",
    ),
]
BaselinePath = Annotated[
    Path | None,
    option(
        "--baseline",
        metavar="PATH",
        show_default=".bsadvisor/baselines of the project",
        help="File or folder of the baseline.",
    ),
]
CompileOne = Annotated[
    str,
    option("--compile", metavar="[on|off]", help="Put the model through torch.compile."),
]
CommentFile = Annotated[
    Path | None,
    option(
        "--comment",
        metavar="FILE",
        help="Write a comment for a pull request, where something changed, with a marker to find "
        "the last one by.",
    ),
]
JunitFile = Annotated[
    Path | None,
    option("--junit", metavar="FILE", help="Write a test suite of one case a metric (JUnit XML)."),
]
Exports = Annotated[
    list[str] | None,
    option(
        "--export",
        metavar="FORMAT=FILE",
        help="Write the new side's figures for github-action-benchmark or bencher.",
    ),
]
