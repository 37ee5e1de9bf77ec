"""What was seen: raw results of workers, never conclusions."""

from typing import Literal

import msgspec

Outcome = Literal["fit", "oom", "error", "timeout", "spill"]
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
    notes: tuple[str, ...] = ()


class Counter(msgspec.Struct, frozen=True, kw_only=True):
    """A counter of the machine: its value now, or the reason why there is none."""

    name: str
    value: float | None = None
    unit: str | None = None
    missing_because: str | None = None


class DeviceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The device as its own runtime reports it.

    Attributes:
        kind: `cpu`, `cuda` or `mps`.
        name: Marketing name.
        memory_bytes: All of its memory.
        available_bytes: What a new process could take when the run began (for the CPU the
            container's limit included).
        index: Which of several.
        uuid_hash: First 12 hex digits of the SHA-256 of the device's UUID.
    """

    kind: Literal["cpu", "cuda", "mps"]
    name: str
    memory_bytes: int
    available_bytes: int
    index: int = 0
    uuid_hash: str | None = None


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Machine and software of the run."""

    device: DeviceFacts
    torch: str
    python: str
    platform: str
    cpu: str
    cpu_threads: int
    driver: str | None = None
    cuda: str | None = None
    timer_resolution_s: float | None = None
    worker_start_s: float | None = None
    counters: tuple[Counter, ...] = ()


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One micro-batch size run in one worker process.

    Attributes:
        stage: Why it ran.
        session: Number of the worker process, counted over the run.
        micro_batch_size: Samples of one forward/backward.
        outcome: How it ended.
        steps: Full training steps that ran.
        step_times_s: Seconds for each step; one entry for each timed block (its mean).
        device_step_times_s: The same by the device's own events, GPUs only.
        enqueue_times_s: Seconds the host took to issue a step, same entries, GPUs only.
        micro_step_times_s: Seconds of forward and backward alone, one entry for each timed block.
        forward_backward_peak_bytes: Peak from the start of a step to its optimizer step, beyond the
            idle process.
        optimizer_peak_bytes: Peak during the optimizer step, likewise.
        peak_allocated_bytes: Tensors' peak, where the allocator counts them.
        peak_reserved_bytes: The caching allocator's peak, GPUs only.
        peak_device_used_bytes: The driver's or kernel's figure for the process, where known.
        limit_peak_bytes: Peak of what counts against the limit, where that is another figure than
            the peaks above and is known: the kernel's count of the heap on Linux CPUs.
        alloc_retries: Times the caching allocator had to flush and try again; CUDA only.
        available_bytes: Free memory of the device when the worker began, where known.
        swapped_bytes: By how much more of the process the kernel had moved out of memory at the
            end; Linux CPUs only.
        capacity_bytes: The limit that was enforced.
        growth_bytes_per_step: By how much each step leaves more memory taken; None where none.
        message: What a failure said, in one line.
    """

    stage: Literal["memory", "throughput"]
    session: int
    micro_batch_size: int
    outcome: Outcome
    steps: int = 0
    step_times_s: tuple[float, ...] = ()
    device_step_times_s: tuple[float, ...] = ()
    enqueue_times_s: tuple[float, ...] = ()
    micro_step_times_s: tuple[float, ...] = ()
    forward_backward_peak_bytes: int | None = None
    optimizer_peak_bytes: int | None = None
    peak_allocated_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    peak_device_used_bytes: int | None = None
    limit_peak_bytes: int | None = None
    alloc_retries: int | None = None
    available_bytes: int | None = None
    swapped_bytes: int | None = None
    capacity_bytes: int | None = None
    growth_bytes_per_step: int | None = None
    message: str | None = None


class Soak(msgspec.Struct, frozen=True, kw_only=True):
    """A longer training run at one size: whether what fitted for three steps still fits.

    Attributes:
        micro_batch_size: Samples of one forward/backward.
        gradient_accumulation_steps: Forward/backward passes of each optimizer step.
        outcome: How it ended.
        steps: Optimizer steps that ran.
        evaluations: Evaluation passes that ran.
        held_bytes: Memory taken after each step, beyond the idle process.
        step_times_s: Seconds of each step.
        training_peak_bytes: Peak over the training steps, likewise.
        evaluation_peak_bytes: Peak over the evaluation passes; None where none ran.
        reserve_peak_bytes: Peak while the state was copied; None where it was not.
        capacity_bytes: The limit that was enforced.
        message: What a failure said, in one line.
    """

    micro_batch_size: int
    gradient_accumulation_steps: int = 1
    outcome: Outcome
    steps: int = 0
    evaluations: int = 0
    held_bytes: tuple[int, ...] = ()
    step_times_s: tuple[float, ...] = ()
    training_peak_bytes: int | None = None
    evaluation_peak_bytes: int | None = None
    reserve_peak_bytes: int | None = None
    capacity_bytes: int | None = None
    message: str | None = None


class GradientMoments(msgspec.Struct, frozen=True, kw_only=True):
    """Squared norms and products of the mean gradients m_k of micro-batches, in one metric.

    With s_j the sum of b_k·m_k over the micro-batches of jackknife group j and s the sum of s_j.

    Attributes:
        sqnorms: |m_k|² for each micro-batch.
        group_sqnorms: |s_j|² for each group.
        group_dots: <s_j, s> for each group.
        total_sqnorm: |s|².
    """

    sqnorms: tuple[float, ...]
    group_sqnorms: tuple[float, ...]
    group_dots: tuple[float, ...]
    total_sqnorm: float


class NoiseBatches(msgspec.Struct, frozen=True, kw_only=True):
    """The raw pairs behind one noise estimate, taken at frozen parameters.

    Attributes:
        at_step: Optimizer steps taken before.
        loss: Mean loss over the micro-batches.
        micro_batch_sizes: b_k, samples behind each mean gradient; where a group's micro-batches add
            up in place, the group is one such gradient.
        groups: Jackknife group of each mean gradient, from 0.
        plain: Moments in the Euclidean metric.
        preconditioned: Moments in the metric 1/(sqrt(v̂)+ε) of an Adam-like optimizer; None where
            the optimizer has no such state yet.
        dropped: Gradients left out because they were not finite.
        micro_batch_size: Samples of each forward/backward behind the gradients.
    """

    at_step: int
    loss: float
    micro_batch_sizes: tuple[int, ...]
    groups: tuple[int, ...]
    plain: GradientMoments
    preconditioned: GradientMoments | None = None
    dropped: int = 0
    micro_batch_size: int | None = None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Mean loss on the fixed evaluation samples after `samples` training samples."""

    samples: int
    loss: float


class TrialBranch(msgspec.Struct, frozen=True, kw_only=True):
    """One short training run at one batch and rate.

    Attributes:
        global_batch_size: micro_batch_size × gradient_accumulation_steps.
        evaluations: Losses along the branch, the first before training; ends early on divergence.
        diverged: Whether a loss was not finite.
    """

    micro_batch_size: int
    gradient_accumulation_steps: int
    global_batch_size: int
    learning_rate: float
    seed: int
    samples: int
    evaluations: tuple[Evaluation, ...]
    diverged: bool
    beta2: float | None = None
    weight_decay: float | None = None
    lr_warmup_steps: int = 0
