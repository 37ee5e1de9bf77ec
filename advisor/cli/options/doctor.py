"""The options of `bsadvisor doctor` alone."""

from typing import Annotated

import typer

Aa = Annotated[
    str | None,
    typer.Option(
        "--aa",
        envvar="BSADVISOR_AA",
        metavar="MODEL",
        help="Time this model file against itself: how far sessions differ on this machine. "
        "--set, --seed, --precision and --compile say how it trains.",
    ),
]
AaCompile = Annotated[
    str,
    typer.Option(
        "--compile",
        envvar="BSADVISOR_COMPILE",
        metavar="[on|off]",
        help="With --aa: put the model through torch.compile (--no-compile does not).",
    ),
]
AaBatchSize = Annotated[
    int | None,
    typer.Option(
        "--micro-batch-size",
        envvar="BSADVISOR_MICRO_BATCH_SIZE",
        metavar="N",
        min=1,
        show_default="the base batch, or 32",
        help="With --aa: samples of each step.",
    ),
]
