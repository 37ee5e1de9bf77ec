"""The options that probe alone has."""

from typing import Annotated, Literal

from advisor.cli.options import option
from advisor.cli.quantities import parse_duration

ProcessesPerNode = Annotated[
    int,
    option(
        "--nproc-per-node",
        metavar="N",
        min=1,
        help="Ranks that train together on this machine, started as torchrun does; a model file "
        "is wrapped for them.",
    ),
]
Strategy = Annotated[
    Literal["ddp", "fsdp"],
    option(
        "--strategy",
        help="How a model file is spread over ranks: replicated, or sharded by fully_shard.",
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
BaseBatchSize = Annotated[
    int | None,
    option(
        "--base-batch-size",
        min=1,
        show_default="the file's BASE_BATCH_SIZE",
        help="Global batch size for which your learning rate was tuned.",
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
