"""The user's model file as it was understood."""

from typing import Literal

import msgspec

from advisor.spec import TokenCount

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
