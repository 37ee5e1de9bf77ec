"""The options of `bsadvisor probe` alone."""

from typing import Annotated, Literal

import typer

from advisor.cli.quantities import parse_memory_limit

MemoryLimit = Annotated[
    int | None,
    typer.Option(
        "--memory-limit",
        envvar="BSADVISOR_MEMORY_LIMIT",
        metavar="SIZE",
        parser=parse_memory_limit,
        show_default="what the device has",
        help="Memory that training may take, such as 10GiB.",
    ),
]
Precisions = Annotated[
    str,
    typer.Option(
        "--precision",
        envvar="BSADVISOR_PRECISION",
        metavar="NAME[,NAME...]",
        help="Arithmetic of the training step, never changed silently: fp32, tf32, bf16 or fp16. "
        "Several are compared; the recommendation is for the first.",
    ),
]
Compile = Annotated[
    str,
    typer.Option(
        "--compile",
        envvar="BSADVISOR_COMPILE",
        metavar="[on|off|off,on]",
        help="Put the model through torch.compile (--no-compile does not); off,on compares both.",
    ),
]
BaseBatchSize = Annotated[
    int | None,
    typer.Option(
        "--base-batch-size",
        envvar="BSADVISOR_BASE_BATCH_SIZE",
        min=1,
        show_default="the file's BASE_BATCH_SIZE",
        help="Global batch size for which your learning rate was tuned.",
    ),
]
NoiseSteps = Annotated[
    int | None,
    typer.Option(
        "--noise-steps",
        envvar="BSADVISOR_NOISE_STEPS",
        min=0,
        show_default="by budget",
        help="Optimizer steps along which the gradient noise is measured.",
    ),
]
Checkpoints = Annotated[
    list[str] | None,
    typer.Option(
        "--checkpoint",
        envvar="BSADVISOR_CHECKPOINT",
        metavar="FILE",
        help="Measure the noise at these saved weights, not along a training run; repeat for more.",
    ),
]
NoiseLog = Annotated[
    str | None,
    typer.Option(
        "--noise-log",
        envvar="BSADVISOR_NOISE_LOG",
        metavar="FILE",
        help="Take the noise from what a real run logged of its gradients; none is measured.",
    ),
]
SampleUnit = Annotated[
    Literal["sample", "token"],
    typer.Option(
        "--sample-unit",
        envvar="BSADVISOR_SAMPLE_UNIT",
        help="Tell the noise scale in samples or in tokens; batches are samples all the same.",
    ),
]
GivenBatchSize = Annotated[
    int | None,
    typer.Option(
        "--global-batch-size",
        envvar="BSADVISOR_GLOBAL_BATCH_SIZE",
        metavar="N",
        min=1,
        show_default="what trains fastest",
        help="Keep to this batch: advise its micro-batch, accumulation and learning rate.",
    ),
]
Reserve = Annotated[
    bool,
    typer.Option(
        "--reserve",
        envvar="BSADVISOR_RESERVE",
        help="The advised size must leave room for a copy of the training state, as a checkpoint "
        "takes.",
    ),
]
