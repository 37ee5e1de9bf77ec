"""What is asked of training, what was seen of it, and what follows: the types."""

from pathlib import Path
from typing import Literal

import msgspec

from advisor.errors import UsageError

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
#: What a step counts: optimizer steps, epochs, or the place of a checkpoint among those given.
StepSource = Literal["steps", "epochs", "order"]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A model file or module, and the name of the model factory in it.

    Attributes:
        text: As typed.
        path: The file, or None for a module.
        module: The dotted module, or None for a file.
        name: The factory asked for, or None for the known names.
    """

    text: str
    path: str | None
    module: str | None
    name: str | None


def parse_target(text: str) -> Target:
    """Return what `path.py`, `path.py:name` or `package.module:name` points at.

    Raises:
        UsageError: There is no such file, or the text is neither a file nor a module.
    """
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
            f"there is no model file {location}",
            next_step="Give the path of a model file; `bsadvisor init` writes one to start from.",
        )
    return Target(text=text, path=None, module=location, name=name)


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run the same training.

    Attributes:
        precision: As in `WorkloadSpec`.
        compile: As in `WorkloadSpec`.
    """

    precision: Precision
    compile: bool = False


def name_variant(precision: str, *, compiled: bool) -> str:
    """Return what a variant is called: `bf16`, `bf16 compiled`."""
    return f"{precision} compiled" if compiled else precision


class TokenCount(msgspec.Struct, frozen=True, kw_only=True):
    """How the tokens that a loss averages over are counted in a batch.

    Attributes:
        tensor: Which tensor of the batch, in the order in which its structure holds them.
        ignored: Elements of this value do not count.
        is_shifted: Whether the first of each row is no target, as where a model predicts the next.
    """

    tensor: int
    ignored: int
    is_shifted: bool = False


class WorkloadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which model to run, and how.

    Attributes:
        target: `path.py`, `path.py:name`, or `package.module:name`, as typed.
        settings: Extra keyword parameters of the user's functions, as typed after `--set`.
        device: `auto`, `cpu`, `mps`, `cuda` or `cuda:<index>`.
        precision: Arithmetic of the training step; never changed silently.
        compile: Whether the model goes through `torch.compile`.
        seed: Seeds every random generator of every worker.
        base_batch_size: Global batch size for which the user's learning rate was tuned; overrides
            the model file's `BASE_BATCH_SIZE`.
    """

    target: str
    settings: dict[str, str] = {}
    device: str = "auto"
    precision: Precision = "fp32"
    compile: bool = False
    seed: int = 0
    base_batch_size: int | None = None


LossReduction = Literal["mean", "sum", "weighted", "coupled", "unknown"]


class OptimizerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The user's optimizer as it was built, read from its first parameter group.

    Attributes:
        name: Class name, such as `SGD` or `AdamW`.
        learning_rate: Base rate; None where the optimizer has none.
        momentum: SGD or RMSProp momentum.
        beta1: Adam's first beta.
        beta2: Adam's second beta.
        epsilon: Adam's epsilon.
        weight_decay: Decay coefficient.
        needs_closure: Whether `step` wants a closure (LBFGS).
        is_default: True where the model file has none and AdamW stands in.
        dampening: SGD's dampening of the gradient that enters its momentum.
        is_nesterov: Whether SGD's momentum is Nesterov's.
    """

    name: str
    learning_rate: float | None = None
    momentum: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float | None = None
    weight_decay: float | None = None
    needs_closure: bool = False
    is_default: bool = False
    dampening: float | None = None
    is_nesterov: bool = False


class WorkloadFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The user's model file as it was understood.

    Attributes:
        file: The file or module as typed.
        model_name: Class name of the model, or the name of `make_step`.
        parameter_count: All parameters, tied ones once; None with `make_step`.
        trainable_parameter_count: Those that require a gradient.
        parameter_bytes: Bytes of all parameters.
        how_model: One sentence: where the model came from.
        how_loss: One sentence: where the loss came from, the inferred rule included.
        how_optimizer: One sentence: where the optimizer came from.
        how_batch: One sentence: where the batches came from.
        sample_unit: What one unit of the batch dimension is, such as `sample` or `sequence`.
        dataset_size: Samples in the dataset; None where unknown or without a dataset.
        has_dataset: Whether real data is there, so that noise can be estimated.
        is_step_only: True with `make_step`: memory and throughput only.
        variable_length: Whether samples differ in their number of elements.
        largest_samples: Dataset indices, largest first, where samples differ.
        optimizer: None with `make_step`.
        base_batch_size: Global batch for which the rate was tuned; None where unknown.
        min_micro_batch_size: The smallest size the model runs at (2 under BatchNorm).
        has_batch_statistics: Whether training mixes the samples of a micro-batch (BatchNorm).
        has_synchronised_statistics: Whether ranks share those statistics (SyncBatchNorm).
        loss_reduction: How the loss treats its batch.
        first_loss: Loss of the first training step.
        token_count: How the tokens are counted that a loss averages over; None where it averages
            over samples, or where no count explains it.
        tokens_per_sample: Mean number of target tokens of a sample; None where there are none.
        notes: Further facts the reader should know, one sentence each.
    """

    file: str
    model_name: str
    how_model: str
    how_loss: str
    how_optimizer: str
    how_batch: str
    sample_unit: str = "sample"
    parameter_count: int | None = None
    trainable_parameter_count: int | None = None
    parameter_bytes: int | None = None
    dataset_size: int | None = None
    has_dataset: bool = False
    is_step_only: bool = False
    variable_length: bool = False
    largest_samples: tuple[int, ...] = ()
    optimizer: OptimizerFacts | None = None
    base_batch_size: int | None = None
    min_micro_batch_size: int = 1
    has_batch_statistics: bool = False
    has_synchronised_statistics: bool = False
    loss_reduction: LossReduction = "unknown"
    first_loss: float | None = None
    token_count: TokenCount | None = None
    tokens_per_sample: float | None = None
    notes: tuple[str, ...] = ()
