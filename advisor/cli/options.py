"""The options that commands share, each with its help text and its environment variable."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from advisor.cli.quantities import parse_duration, parse_memory_limit, parse_rate, parse_size

#: The same names as `advisor.spec.Precision`, which would cost the help text the import of msgspec.
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
Aa = Annotated[
    str | None,
    typer.Option(
        "--aa",
        envvar="BSADVISOR_AA",
        metavar="MODEL",
        help="Time this model file against itself: how far sessions differ on this machine.",
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
Reserve = Annotated[
    bool,
    typer.Option(
        "--reserve",
        envvar="BSADVISOR_RESERVE",
        help="The advised size must leave room for a copy of the training state, as a checkpoint "
        "takes.",
    ),
]
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
