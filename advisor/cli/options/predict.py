"""The options of `bsadvisor predict` alone."""

from typing import Annotated

import typer

from advisor.cli.quantities import parse_memory_limit

Gpus = Annotated[
    list[str] | None,
    typer.Option(
        "--gpu",
        envvar="BSADVISOR_GPU",
        metavar="NAME",
        help="Card to predict for, such as H100 or RTX-4090; repeat for more.",
    ),
]
GpuMemory = Annotated[
    list[int] | None,
    typer.Option(
        "--gpu-memory",
        envvar="BSADVISOR_GPU_MEMORY",
        metavar="SIZE",
        parser=parse_memory_limit,
        help="Any other card by what CUDA programs get of it, such as 24GiB; repeat for more.",
    ),
]
MicroBatchSize = Annotated[
    int | None,
    typer.Option(
        "--micro-batch-size",
        envvar="BSADVISOR_MICRO_BATCH_SIZE",
        min=1,
        show_default="the largest that fits",
        help="Micro-batch whose memory to predict.",
    ),
]
ExpandableSegments = Annotated[
    bool,
    typer.Option(
        "--expandable-segments",
        envvar="BSADVISOR_EXPANDABLE_SEGMENTS",
        help="Predict for torch's allocator with expandable segments.",
    ),
]
