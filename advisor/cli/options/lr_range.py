"""The options of `bsadvisor lr-range` alone."""

from typing import Annotated

import typer

from advisor.cli.quantities import parse_rate

GlobalBatchSize = Annotated[
    int | None,
    typer.Option(
        "--global-batch-size",
        envvar="BSADVISOR_GLOBAL_BATCH_SIZE",
        metavar="N",
        min=1,
        show_default="the base batch, or 32",
        help="Samples of each optimizer step.",
    ),
]
SplitBatchSize = Annotated[
    int | None,
    typer.Option(
        "--micro-batch-size",
        envvar="BSADVISOR_MICRO_BATCH_SIZE",
        metavar="N",
        min=1,
        show_default="the whole batch",
        help="Make each step of micro-batches of this size.",
    ),
]
LowRate = Annotated[
    float | None,
    typer.Option(
        "--from",
        envvar="BSADVISOR_FROM",
        metavar="RATE",
        parser=parse_rate,
        show_default="the optimizer's rate / 10,000",
        help="Lowest learning rate of the range.",
    ),
]
HighRate = Annotated[
    float | None,
    typer.Option(
        "--to",
        envvar="BSADVISOR_TO",
        metavar="RATE",
        parser=parse_rate,
        show_default="the optimizer's rate × 1,000",
        help="Highest learning rate of the range.",
    ),
]
RangeSteps = Annotated[
    int,
    typer.Option(
        "--steps",
        envvar="BSADVISOR_STEPS",
        min=20,
        max=10_000,
        help="Optimizer steps of each curve.",
    ),
]
RangeSeeds = Annotated[
    int,
    typer.Option(
        "--seeds", envvar="BSADVISOR_SEEDS", min=2, max=100, help="Curves, each from its own start."
    ),
]
