"""Every option, with its help text; each has an environment variable by its name."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from advisor.cli.quantities import parse_duration, parse_memory_limit, parse_rate, parse_size

#: The names of `advisor.training.data.Precision`, which would cost the help text msgspec's import.
PrecisionName = Literal["fp32", "tf32", "bf16", "fp16"]

#: Seconds: long enough for every part of a small model, short enough to wait for.
DEFAULT_BUDGET_S = 120.0


def option(*names: str, help: str, **more: Any) -> Any:  # noqa: A002 - typer's word
    """Return an option with `BSADVISOR_NAME` as its environment variable."""
    variable = "BSADVISOR_" + max(names, key=len).lstrip("-").replace("-", "_").upper()
    return typer.Option(*names, envvar=variable, help=help, **more)


# Of several commands
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
ProcessesPerNode = Annotated[
    int,
    option(
        "--nproc-per-node",
        metavar="N",
        min=1,
        help="Ranks of the script that train together on this machine, started as torchrun does.",
    ),
]
Nodes = Annotated[
    int,
    option(
        "--nnodes",
        metavar="N",
        min=1,
        help="Nodes that each start this command, as with torchrun; the first measures and prints.",
    ),
]
NodeRank = Annotated[
    int | None,
    option(
        "--node-rank",
        metavar="N",
        min=0,
        show_default="0 where the endpoint is this machine's",
        help="Which of the nodes this is; 0 leads.",
    ),
]
RendezvousEndpoint = Annotated[
    str | None,
    option(
        "--rdzv-endpoint",
        metavar="HOST:PORT",
        help="Where the other nodes find the first, the same on all.",
    ),
]
RendezvousBackend = Annotated[
    str, option("--rdzv-backend", metavar="NAME", help="c10d or static, which are the same here.")
]
RendezvousId = Annotated[
    str | None,
    option("--rdzv-id", metavar="NAME", help="Name of the run, the same on all nodes."),
]
RendezvousConf = Annotated[
    str | None,
    option(
        "--rdzv-conf",
        metavar="NAME=VALUE[,...]",
        help="join_timeout (seconds for all nodes to come) and is_host (whether this one leads).",
    ),
]
MasterAddress = Annotated[
    str | None,
    option("--master-addr", metavar="HOST", help="The first node, in place of --rdzv-endpoint."),
]
MasterPort = Annotated[int | None, option("--master-port", metavar="PORT", help="Its port.")]
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
PlannedBudget = Annotated[
    float | None,
    option(
        "--budget",
        metavar="TIME",
        parser=parse_duration,
        show_default="what the model needs",
        help="Wall clock that the whole command may take, such as 90s, 2m or 1h.",
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
Quiet = Annotated[
    bool, option("--quiet", "-q", help="No progress, and only the headline of the report.")
]
Verbose = Annotated[
    bool,
    option(
        "--verbose",
        "-v",
        help="Show this program's own traceback where it fails, and what a script prints.",
    ),
]

# Of probe
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
Precisions = Annotated[
    str,
    option(
        "--precision",
        metavar="NAME[,NAME...]",
        help="Arithmetic of the training step, never changed silently: fp32, tf32, bf16 or fp16. "
        "Several are compared; the recommendation is for the first.",
    ),
]
Compile = Annotated[
    str,
    option(
        "--compile",
        metavar="[on|off|off,on]",
        help="Put the model through torch.compile (--no-compile does not); off,on compares both.",
    ),
]
BaseBatchSize = Annotated[
    int | None,
    option(
        "--base-batch-size",
        min=1,
        show_default="the file's BASE_BATCH_SIZE",
        help="Global batch size for which your learning rate was tuned.",
    ),
]
NoiseSteps = Annotated[
    int | None,
    option(
        "--noise-steps",
        min=0,
        show_default="by budget",
        help="Optimizer steps along which the gradient noise is measured.",
    ),
]
Checkpoints = Annotated[
    list[str] | None,
    option(
        "--checkpoint",
        metavar="FILE",
        help="Measure the noise at these saved weights, not along a training run; repeat for more.",
    ),
]
NoiseLog = Annotated[
    str | None,
    option(
        "--noise-log",
        metavar="FILE",
        help="Take the noise from what a real run logged of its gradients; none is measured.",
    ),
]
SampleUnit = Annotated[
    Literal["sample", "token"],
    option(
        "--sample-unit",
        help="Tell the noise scale in samples or in tokens; batches are samples all the same.",
    ),
]
Sharpness = Annotated[
    bool,
    option(
        "--sharpness",
        help="Also measure the sharpness of the loss along training, and set the rates beside the "
        "limit that follows.",
    ),
]
GivenBatchSize = Annotated[
    int | None,
    option(
        "--global-batch-size",
        metavar="N",
        min=1,
        show_default="what trains fastest",
        help="Keep to this batch: advise its micro-batch, accumulation and learning rate.",
    ),
]
Reserve = Annotated[
    bool,
    option(
        "--reserve",
        help="The advised size must leave room for a copy of the training state, as a checkpoint "
        "takes.",
    ),
]
TrainSteps = Annotated[
    int | None,
    option(
        "--train-steps",
        metavar="N",
        min=1,
        show_default="not known",
        help="How long you train, in optimizer steps at the base batch.",
    ),
]
NoLoader = Annotated[
    bool,
    option(
        "--no-loader",
        help="Your data is in memory already: batches are cut from its tensors, and no DataLoader "
        "is timed.",
    ),
]
EpochOverhead = Annotated[
    float | None,
    option(
        "--epoch-overhead",
        metavar="TIME",
        parser=parse_duration,
        show_default="none",
        help="What each epoch takes besides its steps, such as 20s for evaluation and a "
        "checkpoint.",
    ),
]

# On paper: other GPUs, prices, schedules, the length of training
GpuCounts = Annotated[
    str | None,
    option(
        "--gpus",
        metavar="N[,N...]",
        show_default="1",
        help="Numbers of GPUs like this one whose time and cost to compare, on paper.",
    ),
]
Price = Annotated[
    float | None,
    option(
        "--price",
        metavar="AMOUNT",
        help="Price of a GPU for an hour; without it costs are in GPU time.",
    ),
]
InterconnectName = Annotated[
    str | None,
    option(
        "--interconnect",
        metavar="NAME|GB/s",
        help="What links the GPUs, such as nvlink4, pcie4 or ethernet-100g, or its GB/s for each "
        "GPU and direction.",
    ),
]
Samples = Annotated[
    int | None,
    option(
        "--samples",
        metavar="N",
        help="Samples that your training takes at the base batch; gives hours and money.",
    ),
]
Epochs = Annotated[
    float | None, option("--epochs", metavar="N", help="The same in passes over the dataset.")
]
Milestones = Annotated[
    str | None,
    option(
        "--milestones",
        metavar="STEP[,STEP...]",
        help="Where your schedule cuts the rate, in steps at the base batch or, as 30e,60e, in "
        "epochs: a growing batch in its place.",
    ),
]
Gamma = Annotated[
    float | None,
    option(
        "--gamma",
        show_default="0.1",
        help="With --milestones: what the rate is multiplied with at each.",
    ),
]
Cosine = Annotated[
    str | None,
    option(
        "--cosine",
        metavar="STEPS",
        help="Where your cosine schedule ends, in steps or, as 90e, in epochs: a growing batch in "
        "its place.",
    ),
]

# Of predict
Gpus = Annotated[
    list[str] | None,
    option(
        "--gpu",
        metavar="NAME",
        help="Card to predict for, such as H100 or RTX-4090; repeat for more.",
    ),
]
GpuMemory = Annotated[
    list[int] | None,
    option(
        "--gpu-memory",
        metavar="SIZE",
        parser=parse_memory_limit,
        help="Any other card by what CUDA programs get of it, such as 24GiB; repeat for more.",
    ),
]
MicroBatchSize = Annotated[
    int | None,
    option(
        "--micro-batch-size",
        min=1,
        show_default="the largest that fits",
        help="Micro-batch whose memory to predict.",
    ),
]
ExpandableSegments = Annotated[
    bool,
    option("--expandable-segments", help="Predict for torch's allocator with expandable segments."),
]

# Of lr-range
GlobalBatchSize = Annotated[
    int | None,
    option(
        "--global-batch-size",
        metavar="N",
        min=1,
        show_default="the base batch, or 32",
        help="Samples of each optimizer step.",
    ),
]
SplitBatchSize = Annotated[
    int | None,
    option(
        "--micro-batch-size",
        metavar="N",
        min=1,
        show_default="the whole batch",
        help="Make each step of micro-batches of this size.",
    ),
]
LowRate = Annotated[
    float | None,
    option(
        "--from",
        metavar="RATE",
        parser=parse_rate,
        show_default="the optimizer's rate / 10,000",
        help="Lowest learning rate of the range.",
    ),
]
HighRate = Annotated[
    float | None,
    option(
        "--to",
        metavar="RATE",
        parser=parse_rate,
        show_default="the optimizer's rate × 1,000",
        help="Highest learning rate of the range.",
    ),
]
RangeSteps = Annotated[
    int, option("--steps", min=20, max=10_000, help="Optimizer steps of each curve.")
]
RangeSeeds = Annotated[
    int, option("--seeds", min=2, max=100, help="Curves, each from its own start.")
]

# Of verify
VerifySeeds = Annotated[
    int | None,
    option(
        "--seeds",
        min=2,
        show_default="3, more where needed",
        help="Orders of the data with which each batch is trained.",
    ),
]
VerifySamples = Annotated[
    int | None,
    option(
        "--branch-samples",
        min=1,
        show_default="by budget",
        help="Samples on which each branch trains.",
    ),
]
VerifyBatches = Annotated[
    str | None,
    option(
        "--batches",
        metavar="N[,N...]",
        show_default="1/4 to 4 times the recommended one",
        help="Global batches to train, besides the recommended one.",
    ),
]
VerifyCheckpoints = Annotated[
    list[str] | None,
    option(
        "--checkpoint",
        metavar="FILE",
        help="Start the branches from these saved weights, not from a short training.",
    ),
]
Restart = Annotated[
    bool, option("--restart", help="Train every branch again, also those that are stored.")
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
MarkdownFile = Annotated[
    Path | None, option("--markdown", metavar="FILE", help="Write the verdict as Markdown.")
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
