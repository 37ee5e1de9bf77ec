"""What is asked of training, what was seen of it, and what follows: the types."""

from pathlib import Path
from typing import Literal

import msgspec

from advisor.errors import UsageError, clean
from advisor.figures import Bytes, Count, Duration, Figure, Many, Size, Weight

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
#: What a step counts: optimizer steps, epochs, or the place of a checkpoint among those given.
StepSource = Literal["steps", "epochs", "order"]
#: The batch where neither the user nor the model file names one.
USUAL_BATCH_SIZE = 32


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A model file or module, as typed, and the name of the factory in it, where one was given."""

    text: str
    path: str | None
    module: str | None
    name: str | None


def parse_target(text: str) -> Target:
    """Return what `path.py`, `path.py:name` or `package.module:name` is; UsageError if nothing."""
    if clean(text) != text:
        raise UsageError(
            f"the name {clean(text)} is no text in UTF-8", next_step="Rename the file or folder."
        )
    head, separator, tail = text.rpartition(":")
    location, name = (head, tail) if separator and tail.isidentifier() else (text, None)
    if Path(location).is_file():
        if not location.endswith(".py"):
            raise UsageError(
                f"{location} is not a Python file: its name does not end in .py",
                next_step="Give the model file; `bsadvisor init` writes one to start from.",
            )
        return Target(text=text, path=location, module=None, name=name)
    parts = location.split(".")
    if location.endswith(".py") or not all(part.isidentifier() for part in parts):
        raise UsageError(
            f"there is no file {location}",
            next_step="Give the path of a model file, or of a training script; `bsadvisor init` "
            "writes a model file to start from.",
        )
    return Target(text=text, path=None, module=location, name=name)


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run the same training."""

    precision: Precision
    compile: bool = False

    @property
    def name(self) -> str:
        """As in `bf16` or `bf16 compiled`."""
        return f"{self.precision} compiled" if self.compile else self.precision


class TokenCount(msgspec.Struct, frozen=True, kw_only=True):
    """How the tokens that a loss averages over are counted in a batch."""

    #: Which tensor of the batch, in the order in which its structure holds them.
    tensor: int
    #: Elements of this value do not count.
    ignored: int
    #: Whether the first of each row is no target, as where a model predicts the next.
    is_shifted: bool = False


#: What evaluates the loss of a step: the loop, before it; the optimizer, by a closure; or both, as
#: where SAM moves the weights along a gradient that is there, and then asks for another.
ClosureUse = Literal["none", "alone", "after_backward"]

#: Share of a short run's steps into which a script's warm-up, meant for a longer training, goes.
WARMUP_FRACTION = 0.1


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """How the user's own training script is started."""

    #: What stands after `--`, with placeholders.
    arguments: tuple[str, ...] = ()
    #: Whether the target is a module, as after `python -m`.
    is_module: bool = False
    #: Whether `{batch_size}` is that of an optimizer step, and not of one rank's backward pass.
    batch_is_global: bool = False
    #: Backward passes and ranks over which the script spreads a step, where it is not told to.
    parts: Size = 1
    #: Processes that train together, and torchrun's options that start them; one needs none.
    ranks: Size = 1
    launch: tuple[str, ...] = ()
    #: Ranks of each of several nodes, and those that share a machine; 0: all are on this one.
    per_node: int = 0
    local_ranks: int = 0
    #: Of the user's, which the script trains on the ranks: what is advised is for it.
    model_file: str = ""
    #: Whether it divides each backward pass's loss by how many a step has.
    divides_loss: bool = False
    #: Whether it is told a trial's steps, and has a schedule that is stretched over them.
    stretches_schedule: bool = False
    #: Of the model's first input, the one that is the batch; None where a DataLoader tells.
    dimension: int | None = None

    def list_ranks(self, node: int) -> range:
        """Return the ranks of one of several nodes."""
        return range(node * self.per_node, min((node + 1) * self.per_node, self.ranks))


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """Another checkout of the user's repository, in which the code is to run."""

    #: Its folder.
    root: str
    #: The repository's own.
    instead_of: str
    #: In either: what is the working directory.
    folder: str = "."


class WorkloadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which model to run, and how."""

    #: `path.py`, `path.py:name`, or `package.module:name`, as typed.
    target: str
    #: Where it is a training script; None: a model file.
    script: Script | None = None
    #: Extra keyword parameters of the user's functions, as typed after `--set`.
    settings: dict[str, str] = {}
    device: str = "auto"
    precision: Precision = "fp32"
    compile: bool = False
    seed: int = 0
    #: Overrides the model file's `BASE_BATCH_SIZE`.
    base_batch_size: Size | None = None
    #: How the optimizer was seen to be stepped; None where its signature alone tells.
    closure: ClosureUse | None = None
    #: The smallest batch that was seen to run.
    smallest_batch: int = 1
    #: Where the code is, if not in the working directory.
    checkout: Checkout | None = None

    @property
    def file(self) -> str:
        """The model file that ranks train, else the target: what the user gave."""
        return (self.script.model_file if self.script else "") or self.target

    @property
    def ranks(self) -> int:
        """Processes that train together."""
        return 1 if self.script is None else self.script.ranks


LossReduction = Literal["mean", "sum", "weighted", "coupled", "unknown"]


class ParameterGroup(msgspec.Struct, frozen=True, kw_only=True):
    """What one parameter group of the user's optimizer has of its own."""

    parameter_count: Count
    learning_rate: Figure | None = None
    weight_decay: Figure | None = None


class OptimizerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The user's optimizer, read from its first group that trains; None: it has no such setting."""

    name: str
    learning_rate: Figure | None = None
    momentum: Figure | None = None
    beta1: Figure | None = None
    beta2: Figure | None = None
    epsilon: Figure | None = None
    weight_decay: Figure | None = None
    needs_closure: bool = False
    #: Whether a backward pass comes before its step with the closure.
    needs_backward: bool = False
    #: Whether the model file has none, and AdamW stands in.
    is_default: bool = False
    dampening: Figure | None = None
    is_nesterov: bool = False
    groups: tuple[ParameterGroup, ...] = ()
    #: Its class and those that it derives from, nearest first.
    class_names: tuple[str, ...] = ()

    @property
    def closure_use(self) -> ClosureUse:
        """What evaluates the loss of its steps."""
        if not self.needs_closure:
            return "none"
        return "after_backward" if self.needs_backward else "alone"


class ScriptFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The user's training script as it ran."""

    #: How it is started, with what was learnt of it.
    script: Script
    #: What it can be told: names of placeholders.
    placeholders: tuple[str, ...] = ()
    #: What its batches were counted by.
    counted_by: str
    #: Whether the optimizer's rate is what `{learning_rate}` says.
    takes_rate: bool = False
    #: Until its first optimizer step, in seconds.
    start_s: Duration
    #: Why there is neither noise nor trial; empty where there is.
    why_untrained: str = ""


class WorkloadFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The user's model file as it was understood."""

    file: str  # or module, as typed
    #: Of the file's text; None of a module, and of a script.
    file_sha256: str | None = None
    model_name: str
    #: One sentence each: where it came from.
    how_model: str
    how_loss: str
    how_optimizer: str
    how_batch: str
    sample_unit: str = "sample"
    #: Tied parameters once; None with `make_step`, as the two that follow.
    parameter_count: Count | None = None
    trainable_parameter_count: Count | None = None
    parameter_bytes: Bytes | None = None
    #: None where unknown or without a dataset.
    dataset_size: Many | None = None
    has_dataset: bool = False
    #: `make_step`: memory and throughput only.
    is_step_only: bool = False
    is_lightning: bool = False
    #: Of the card that the file's workers compute on, NVIDIA only: the file may choose its own.
    device_uuid_hash: str | None = None
    #: Of torch's allocator, where the file itself caps it.
    allocator_cap_bytes: Bytes | None = None
    #: The first sample that holds a NaN or an infinity; None where none was seen.
    not_finite_sample: int | None = None
    #: Whether samples differ in size, and then the largest ones' indices, largest first.
    variable_length: bool = False
    largest_samples: tuple[int, ...] = ()
    optimizer: OptimizerFacts | None = None
    #: Whether the user's training follows a schedule that fits any number of steps.
    has_scheduler: bool = False
    #: Norm to which the user's loop clips gradients.
    clip_grad_norm: Figure | None = None
    #: For which the rate was tuned.
    base_batch_size: Size | None = None
    #: 2 under BatchNorm.
    min_micro_batch_size: Size = 1
    #: BatchNorm, and SyncBatchNorm, which shares its statistics among ranks.
    has_batch_statistics: bool = False
    has_synchronised_statistics: bool = False
    loss_reduction: LossReduction = "unknown"
    first_loss: Figure | None = None
    #: Every gradient of the first batches is exactly 0: no noise, and nothing is learned.
    has_zero_gradient: bool = False
    #: None where the loss averages over samples, or where no count explains it.
    token_count: TokenCount | None = None
    #: Mean number of target tokens.
    tokens_per_sample: Weight | None = None
    #: What else the reader should know, one sentence each.
    notes: tuple[str, ...] = ()
    #: Of a training script.
    script: ScriptFacts | None = None

    @property
    def parts(self) -> int:
        """Over how many backward passes and ranks a script spreads a step by itself."""
        return 1 if self.script is None else self.script.script.parts

    @property
    def usual_batch_size(self) -> int:
        """The user's own batch, without one a usual one that the model and the data allow."""
        size = max(self.base_batch_size or USUAL_BATCH_SIZE, self.min_micro_batch_size)
        return min(size, self.dataset_size or size)
