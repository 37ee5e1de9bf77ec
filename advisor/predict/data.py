"""What is asked of predict, what was seen of it, and what follows: the types."""

from typing import ClassVar, Literal

import msgspec

from advisor.engine.record import Series, Slot
from advisor.engine.task import WorkloadTask
from advisor.memory.data import LimitedBy
from advisor.predict.memory_trace import (
    Category,
    MemoryTrace,
    Operators,
    Phase,
    PredictedMemory,
    PredictedWhatIf,
    StepCost,
)
from advisor.statistics import Estimate


class ModuleShare(msgspec.Struct, frozen=True, kw_only=True):
    """What the storages of one module, or of a group of repeated ones, hold at the peak.

    Attributes:
        name: Dotted; `*` stands for the numbers of repeated blocks. None for what was made outside
            of every module: the batch, the loss, the optimizer's work.
        count: Blocks that the group stands for; 1 where nothing repeats.
        size_bytes: Of all of them together.
        bytes_by_category: The same by what it holds, largest first.
        parts: The group by the modules inside its blocks, largest first; empty where it has none.
    """

    name: str | None
    count: int
    size_bytes: int
    bytes_by_category: dict[Category, int]
    parts: tuple["ModuleShare", ...] = ()


class PhaseLevel(msgspec.Struct, frozen=True, kw_only=True):
    """What is allocated over one phase: when it begins, at most, and when it ends."""

    phase: Phase
    step: int
    start_bytes: int
    peak_bytes: int
    end_bytes: int


class Breakdown(msgspec.Struct, frozen=True, kw_only=True):
    """What holds the memory at the moment of the allocated peak; by a trace, not run.

    Attributes:
        micro_batch_size: In samples.
        peak_bytes: Allocated, unrounded; categories and modules each sum to it.
        phase: In which the peak is first reached.
        step: Of it; 0 for the setup.
        bytes_by_category: Every category that holds anything, largest first.
        modules: Largest first.
        timeline: Every phase, in order.
    """

    micro_batch_size: int
    peak_bytes: int
    phase: Phase
    step: int
    bytes_by_category: dict[Category, int]
    modules: tuple[ModuleShare, ...]
    timeline: tuple[PhaseLevel, ...]


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """A change to the training code that saves memory: predicted by another trace, not run.

    Attributes:
        name: Such as `bf16 autocast`.
        how_to: One line of code to paste.
        max_micro_batch_size: The largest that fits with it; None where it is not known.
        peak_bytes: Allocated peak with it, at the size that the figures without it are for.
        note: What it costs, and what the prediction assumes.
    """

    name: str
    how_to: str
    max_micro_batch_size: int | None
    peak_bytes: int
    note: str = ""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The training as it is and with each remedy that helps, all by traces: predicted, not run.

    Attributes:
        micro_batch_size: The size that the peaks are for.
        max_micro_batch_size: The largest that fits as it is.
        peak_bytes: Allocated peak as it is.
        remedies: The one with the largest micro-batch first.
    """

    micro_batch_size: int
    max_micro_batch_size: int | None
    peak_bytes: int
    remedies: tuple[Remedy, ...]


class MemoryShare(msgspec.Struct, frozen=True, kw_only=True):
    """What a part of the training state takes at the peak.

    Attributes:
        part: Such as `parameters` or `context`.
        size_bytes: Unrounded sizes of the storages; the allocator's rounding is a part of its own.
    """

    part: str
    size_bytes: int


class ThroughputBound(msgspec.Struct, frozen=True, kw_only=True):
    """What no implementation can exceed on the card; a bound, not an estimate.

    Attributes:
        samples_per_s: The lower of the two below.
        limited_by: Which of them that is.
        arithmetic_per_s: At the dense peak of the data sheet; None where either is unknown.
        bandwidth_per_s: At the bandwidth of the data sheet, likewise.
    """

    samples_per_s: float
    limited_by: Literal["arithmetic", "bandwidth"]
    arithmetic_per_s: float | None
    bandwidth_per_s: float | None


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """Training on one card that is not here: predicted, not run.

    Attributes:
        gpu: Name of the card.
        memory_bytes: All of its memory.
        memory_source: `driver-reported`, `nominal` or `stated`.
        usable_bytes: What CUDA programs can get of it.
        headroom_bytes: Kept free.
        capacity_bytes: What is left for tensors: usable, less context and headroom.
        max_micro_batch_size: The largest that fits; 0 where not even the smallest does.
        limited_by: What ends it.
        micro_batch_size: The size that the figures below are for: the one asked for, else the
            largest; None where there is none.
        fits: Whether that size fits; None where the interval holds both.
        allocated_bytes: Peak of all tensors.
        reserved_bytes: Peak of the caching allocator.
        device_used_bytes: Peak of the process as the driver sees it, the context included.
        breakdown: What the peak consists of.
        bound: On the speed at that size; None where nothing bounds it.
        at_peak: What holds the memory at that size; None where no trace holds for it.
        what_would_change: What usual remedies would change; None where none was traced.
    """

    gpu: str
    memory_bytes: int
    memory_source: str
    usable_bytes: int
    headroom_bytes: int
    capacity_bytes: int
    max_micro_batch_size: Estimate
    limited_by: LimitedBy
    micro_batch_size: int | None = None
    fits: bool | None = None
    allocated_bytes: Estimate | None = None
    reserved_bytes: Estimate | None = None
    device_used_bytes: Estimate | None = None
    breakdown: tuple[MemoryShare, ...] = ()
    bound: ThroughputBound | None = None
    at_peak: Breakdown | None = None
    what_would_change: Comparison | None = None


class TraceTask(WorkloadTask[MemoryTrace], frozen=True, kw_only=True):
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

    runs: ClassVar[str] = "advisor.predict.measure:run"

    operators: Operators
    largest_samples: tuple[int, ...] = ()
    micro_batch_size: int | None = None
    min_micro_batch_size: int = 1
    batch_multiple: int = 1
    checkpoint_blocks: bool = False
    foreach: bool | None = None


PREDICTED_MEMORY = Slot("predicted_memory", PredictedMemory)
STEP_COST = Slot("step_cost", StepCost)
PEAK = Slot("peak", Breakdown)
WHAT_IFS = Series("what_ifs", PredictedWhatIf)
