"""The options of `bsadvisor verify` alone."""

from typing import Annotated

import typer

VerifySeeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        envvar="BSADVISOR_SEEDS",
        min=2,
        show_default="3, more where needed",
        help="Orders of the data with which each batch is trained.",
    ),
]
VerifySamples = Annotated[
    int | None,
    typer.Option(
        "--branch-samples",
        envvar="BSADVISOR_BRANCH_SAMPLES",
        min=1,
        show_default="by budget",
        help="Samples on which each branch trains.",
    ),
]
VerifyBatches = Annotated[
    str | None,
    typer.Option(
        "--batches",
        envvar="BSADVISOR_BATCHES",
        metavar="N[,N...]",
        show_default="1/4 to 4 times the recommended one",
        help="Global batches to train, besides the recommended one.",
    ),
]
VerifyCheckpoints = Annotated[
    list[str] | None,
    typer.Option(
        "--checkpoint",
        envvar="BSADVISOR_CHECKPOINT",
        metavar="FILE",
        help="Start the branches from these saved weights, not from a short training.",
    ),
]
Restart = Annotated[
    bool,
    typer.Option(
        "--restart",
        envvar="BSADVISOR_RESTART",
        help="Train every branch again, also those that are stored.",
    ),
]
