"""The options worked out on paper: other GPUs, prices, schedules, the length of training."""

from typing import Annotated

import typer

GpuCounts = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        envvar="BSADVISOR_GPUS",
        metavar="N[,N...]",
        show_default="1",
        help="Numbers of GPUs like this one whose time and cost to compare, on paper.",
    ),
]
Price = Annotated[
    float | None,
    typer.Option(
        "--price",
        envvar="BSADVISOR_PRICE",
        metavar="AMOUNT",
        help="Price of a GPU for an hour; without it costs are in GPU time.",
    ),
]
InterconnectName = Annotated[
    str | None,
    typer.Option(
        "--interconnect",
        envvar="BSADVISOR_INTERCONNECT",
        metavar="NAME|GB/s",
        help="What links the GPUs, such as nvlink4, pcie4 or ethernet-100g, or its GB/s for each "
        "GPU and direction.",
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        "--samples",
        envvar="BSADVISOR_SAMPLES",
        metavar="N",
        help="Samples that your training takes at the base batch; gives hours and money.",
    ),
]
Epochs = Annotated[
    float | None,
    typer.Option(
        "--epochs",
        envvar="BSADVISOR_EPOCHS",
        metavar="N",
        help="The same in passes over the dataset.",
    ),
]
Milestones = Annotated[
    str | None,
    typer.Option(
        "--milestones",
        envvar="BSADVISOR_MILESTONES",
        metavar="STEP[,STEP...]",
        help="Where your schedule cuts the rate, in steps at the base batch or, as 30e,60e, in "
        "epochs: a growing batch in its place.",
    ),
]
Gamma = Annotated[
    float | None,
    typer.Option(
        "--gamma",
        envvar="BSADVISOR_GAMMA",
        show_default="0.1",
        help="With --milestones: what the rate is multiplied with at each.",
    ),
]
Cosine = Annotated[
    str | None,
    typer.Option(
        "--cosine",
        envvar="BSADVISOR_COSINE",
        metavar="STEPS",
        help="Where your cosine schedule ends, in steps or, as 90e, in epochs: a growing batch in "
        "its place.",
    ),
]
