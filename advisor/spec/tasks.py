"""What a worker is asked to do."""

import msgspec

from advisor.memory_trace import Operators
from advisor.spec.workload import TokenCount, WorkloadSpec

#: Full training steps a memory probe runs: the first has no optimizer state yet, the second creates
#: the steady state, the third shows that it is steady.
MEMORY_PROBE_STEPS = 3


class EnvironmentTask(msgspec.Struct, frozen=True, kw_only=True, tag="environment"):
    """Report the device and the software, without touching the user's file."""

    device: str = "auto"


class InspectTask(msgspec.Struct, frozen=True, kw_only=True, tag="inspect"):
    """Load the model file, run one small training step, and report what was found.

    Attributes:
        batch_multiple: Only multiples of this size are run.
        without_steps: Report what can be told without a training step, for models that this
            machine cannot train.
    """

    workload: WorkloadSpec
    batch_multiple: int = 1
    without_steps: bool = False


class MemoryTask(msgspec.Struct, frozen=True, kw_only=True, tag="memory"):
    """Run full training steps at one micro-batch size under an enforced limit.

    Attributes:
        micro_batch_size: Samples of one forward/backward.
        capacity_bytes: The enforced limit on what training takes beyond the idle process; None
            enforces nothing.
        largest_samples: Dataset indices, largest sample first, that fill the worst-case batch;
            empty where all samples have one size.
        steps: Full training steps to run.
    """

    workload: WorkloadSpec
    micro_batch_size: int
    capacity_bytes: int | None
    largest_samples: tuple[int, ...] = ()
    steps: int = MEMORY_PROBE_STEPS


class ThroughputTask(msgspec.Struct, frozen=True, kw_only=True, tag="throughput"):
    """Time blocks of training steps at several micro-batch sizes, interleaved, in one process.

    Attributes:
        micro_batch_sizes: Sizes to time, in samples; the worker shuffles their order each round.
        session: Number of this session; also moves the seed of the shuffle.
        block_s: Least length of one timed block, in seconds.
        rounds: Timed blocks for each size.
        budget_s: The worker stops starting new rounds after this long, once one round is complete.
    """

    workload: WorkloadSpec
    micro_batch_sizes: tuple[int, ...]
    session: int
    block_s: float
    rounds: int
    budget_s: float


class NoiseTask(msgspec.Struct, frozen=True, kw_only=True, tag="noise"):
    """Train with the user's optimizer and measure gradient moments at points along the way.

    Attributes:
        micro_batch_size: Samples of each gradient that is measured.
        training_micro_batch_size: Samples of one forward/backward of training; None for as many.
        gradient_accumulation_steps: Forward/backward passes for each step of training.
        steps: Optimizer steps of the trajectory.
        points: Steps (0 to `steps`) before which the moments are measured, ascending.
        groups: Jackknife groups.
        max_micro_batches: Most micro-batches taken at one point.
        loss_is_sum: Whether the loss sums over its batch; its gradients are then made means.
        budget_s: The worker ends the trajectory early when this is spent.
        token_count: How to count the tokens by which a micro-batch weighs; None where it weighs by
            its samples.
        checkpoints: Files of saved weights to measure at, in place of a trajectory.
        curvature_sizes: Least and most samples of one micro-batch whose gradient is differentiated
            again, in multiples of the least; None measures no curvature.
        host_memory_bytes: Of the host's memory that training may take; None where the device has
            its own.
    """

    workload: WorkloadSpec
    micro_batch_size: int
    steps: int
    points: tuple[int, ...]
    groups: int
    max_micro_batches: int
    budget_s: float
    training_micro_batch_size: int | None = None
    gradient_accumulation_steps: int = 1
    loss_is_sum: bool = False
    token_count: TokenCount | None = None
    checkpoints: tuple[str, ...] = ()
    curvature_sizes: tuple[int, int] | None = None
    host_memory_bytes: int | None = None


class TrialTask(msgspec.Struct, frozen=True, kw_only=True, tag="trial"):
    """Train short branches at one batch and rate, one for each seed.

    Attributes:
        micro_batch_size: Samples of one forward/backward.
        gradient_accumulation_steps: Forward/backward passes for each optimizer step.
        learning_rate: Rate of the first parameter group; others keep their ratio to it.
        beta2: Replaces Adam's second beta where given.
        weight_decay: Replaces the optimizer's weight decay where given.
        lr_warmup_steps: Steps over which the rate rises linearly from zero; 0 is no warm-up.
        samples: Samples that each branch consumes.
        evaluations: How many times the loss is evaluated along a branch, evenly spaced in samples.
        evaluation_samples: On which the loss is evaluated, at most.
        evaluation_batch_size: Samples of one evaluation pass; the same for all branches that are
            compared, since BatchNorm sees the batch.
        seeds: One branch for each; the seed fixes the start and the order of the data.
        loss_is_sum: Whether the loss sums over its batch; accumulated losses are then not averaged.
        budget_s: No further branch is started after this long.
    """

    workload: WorkloadSpec
    micro_batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float
    samples: int
    evaluations: int
    seeds: tuple[int, ...]
    evaluation_samples: int = 512
    evaluation_batch_size: int = 64
    loss_is_sum: bool = False
    budget_s: float = 60.0
    beta2: float | None = None
    weight_decay: float | None = None
    lr_warmup_steps: int = 0


class LrRangeTask(msgspec.Struct, frozen=True, kw_only=True, tag="lr_range"):
    """Train from each seed while the learning rate rises from step to step: a range test.

    Attributes:
        micro_batch_size: Samples of one forward/backward.
        gradient_accumulation_steps: Forward/backward passes for each optimizer step.
        low_rate: Rate of the first step, in the first parameter group; others keep their ratio.
        high_rate: Rate of the last step.
        steps: Optimizer steps; the rate rises by one factor with each. Fewer where the time does
            not suffice.
        least_steps: Fewest steps worth running, two at least.
        seeds: One curve for each; the seed fixes the start and the order of the data.
        loss_is_sum: As in `TrialTask`.
        budget_s: No further step is started after this long.
    """

    workload: WorkloadSpec
    micro_batch_size: int
    gradient_accumulation_steps: int
    low_rate: float
    high_rate: float
    steps: int
    least_steps: int = 60
    seeds: tuple[int, ...]
    loss_is_sum: bool = False
    budget_s: float = 60.0


class VerificationTask(msgspec.Struct, frozen=True, kw_only=True, tag="verification"):
    """Train once to a common state, then branch off at several batches and rates.

    Attributes:
        trunk: The pair and the samples of the training before the branches; its seed is the
            workload's.
        branches: One for each branch, each with one seed, which fixes the order of its data.
        budget_s: No further branch is started after this long.
        checkpoint: File of saved weights to start from. The trunk then fills the optimizer's state
            at rate 0, where the file does not hold it.
        sharpness_batch_size: Samples of one micro-batch of the sharpness at the end, the same for
            all branches; None where its memory is not expected to suffice.
    """

    workload: WorkloadSpec
    trunk: TrialTask
    branches: tuple[TrialTask, ...]
    budget_s: float
    checkpoint: str | None = None
    sharpness_batch_size: int | None = None


class TraceTask(msgspec.Struct, frozen=True, kw_only=True, tag="trace"):
    """Trace the allocations of three training steps without running them.

    Attributes:
        operators: Whose operators to trace; those of CUDA need no GPU.
        largest_samples: As in `MemoryTask`: the samples of the worst-case batch.
        micro_batch_size: Trace this size alone; None traces two sizes, combines them and compares
            the result with a third.
        min_micro_batch_size: The smallest size that the model can run.
        batch_multiple: Only multiples of this size are traced.
        checkpoint_blocks: What if: repeated blocks recompute their activations.
        foreach: What if: whether the optimizer works on all tensors at once; None leaves the
            default of the device whose operators are traced.
    """

    workload: WorkloadSpec
    operators: Operators
    largest_samples: tuple[int, ...] = ()
    micro_batch_size: int | None = None
    min_micro_batch_size: int = 1
    batch_multiple: int = 1
    checkpoint_blocks: bool = False
    foreach: bool | None = None


class SoakTask(msgspec.Struct, frozen=True, kw_only=True, tag="soak"):
    """Train for longer at one size under the enforced limit, with evaluations in between.

    Attributes:
        micro_batch_size: Samples of one forward/backward.
        gradient_accumulation_steps: Forward/backward passes for each optimizer step.
        capacity_bytes: As in `MemoryTask`.
        largest_samples: As in `MemoryTask`; this batch is one of those that run.
        steps: Most optimizer steps.
        evaluations: Evaluation passes of the model between them, evenly spaced.
        reserve: Whether to copy the state of model and optimizer once, as a checkpoint does.
        budget_s: No further step is started after this long.
    """

    workload: WorkloadSpec
    micro_batch_size: int
    gradient_accumulation_steps: int
    capacity_bytes: int | None
    largest_samples: tuple[int, ...] = ()
    steps: int
    evaluations: int
    reserve: bool = False
    budget_s: float


class LoaderTask(msgspec.Struct, frozen=True, kw_only=True, tag="loader"):
    """Time the user's loader alone, training alone, and both together.

    The worker starts with the loader as it is and adds numbers of workers while training waits.

    Attributes:
        micro_batch_size: Samples of one batch.
        budget_s: No further number of workers is begun, and no window added, after this long.
    """

    workload: WorkloadSpec
    micro_batch_size: int
    budget_s: float


Task = (
    EnvironmentTask
    | InspectTask
    | MemoryTask
    | ThroughputTask
    | NoiseTask
    | TrialTask
    | TraceTask
    | SoakTask
    | LoaderTask
    | LrRangeTask
    | VerificationTask
)
