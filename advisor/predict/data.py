"""What is asked of a prediction, what was seen for it, and what follows: the types."""

from typing import ClassVar, Literal

import msgspec

from advisor.engine.record import Series, Slot
from advisor.engine.task import WorkloadTask
from advisor.figures import Bytes, Signed, Size
from advisor.predict.law import AffinePiece, MemoryLaw
from advisor.predict.memory_trace import Category, Change, MemoryTrace, Operators, Phase
from advisor.statistics import Estimate

#: Sizes above it are not looked for: kernels index with 32 bits long before.
MOST_SAMPLES = 1 << 20

LimitedBy = Literal["memory", "kernel", "dataset", "script", "cap", "model", "budget"]


class CardsAsked(msgspec.Struct, frozen=True, kw_only=True):
    """The cards to predict for, and how training would run on them."""

    #: Names, as `find_gpu` takes them.
    gpus: tuple[str, ...] = ()
    #: Cards of which only the memory is stated.
    gpu_memory_bytes: tuple[Bytes, ...] = ()
    #: The size whose memory is predicted; None takes the largest that fits.
    micro_batch_size: Size | None = None
    #: Kept free on every card; None means the default of `probe`.
    headroom_bytes: Bytes | None = None
    expandable_segments: bool = False


class TraceTask(WorkloadTask[MemoryTrace], frozen=True, kw_only=True):
    """Trace the allocations of three training steps without running them."""

    runs: ClassVar[str] = "advisor.predict.measure:run"

    operators: Operators
    #: As in `MemoryTask`: the samples of the worst-case batch.
    largest_samples: tuple[int, ...] = ()
    #: Trace this size alone; None traces two, combines them and compares the result with a third.
    micro_batch_size: int | None = None
    #: The smallest size that the model can run; only multiples of `batch_multiple` are traced.
    min_micro_batch_size: int = 1
    batch_multiple: int = 1
    #: What if: repeated blocks recompute their activations.
    checkpoint_blocks: bool = False
    #: What if: whether the optimizer works on all tensors at once; None is the device's default.
    foreach: bool | None = None


class PredictedMemory(msgspec.Struct, frozen=True, kw_only=True):
    """The peaks of a training step by its trace, for every batch size; unrounded.

    Of the pieces of each phase, in ascending slope, the highest counts.
    """

    operators: Operators
    forward_backward: tuple[AffinePiece, ...]
    optimizer: tuple[AffinePiece, ...]
    #: What of the limit the device's allocator cannot use at the largest size, by simulation.
    unusable_bytes: Bytes = 0
    #: The largest size by that simulation; None without one.
    largest: Size | None = None
    #: What is allocated at the peak by that simulation, at sizes that ran.
    simulated: tuple[tuple[Size, Bytes], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def law(self) -> MemoryLaw:
        """The peak of the whole step."""
        return MemoryLaw(self.forward_backward + self.optimizer)

    def predict_largest(self, capacity_bytes: int) -> int:
        """Return the largest size whose peak is within the capacity; 0 where there is none."""
        return int(min(MOST_SAMPLES, self.law.predict_largest(capacity_bytes)))


class StepCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one training step must do at the least, by its trace: affine in the batch size."""

    #: None where floating-point operations were not counted.
    flops_fixed: Signed | None
    flops_per_sample: Signed | None
    #: Read and written, at the least.
    moved_fixed_bytes: Signed
    moved_bytes_per_sample: Signed
    #: As in `MemoryTrace`.
    uses_tf32: bool = True

    def count_flops(self, micro_batch_size: int) -> int | None:
        """Return the floating-point operations at a size; None where they were not counted."""
        if self.flops_fixed is None or self.flops_per_sample is None:
            return None
        return self.flops_fixed + self.flops_per_sample * micro_batch_size

    def count_moved_bytes(self, micro_batch_size: int) -> int:
        """Return the bytes read and written at a size."""
        return self.moved_fixed_bytes + self.moved_bytes_per_sample * micro_batch_size


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """The same training, traced again with one change to its code."""

    change: Change
    trace: MemoryTrace


class PredictedWhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """The peaks of the same training with one change to its code."""

    change: Change
    memory: PredictedMemory
    #: Added to a step, as a share of those without the change; None where not counted.
    more_flops_fraction: float | None = None
    how_to: str = ""


class ModuleShare(msgspec.Struct, frozen=True, kw_only=True):
    """What the storages of one module, or of a group of repeated ones, hold; largest first."""

    #: Dotted; `*` stands for the numbers of repeated blocks. None for what no module made.
    name: str | None
    #: Blocks that the group stands for; 1 where nothing repeats.
    count: int
    size_bytes: int
    bytes_by_category: dict[Category, int]
    #: The group by the modules inside its blocks.
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

    Categories and modules, largest first, each sum to the peak; phases are in order.
    """

    micro_batch_size: int
    peak_bytes: int
    #: In which the peak is first reached, and its step; 0 for the setup.
    phase: Phase
    step: int
    bytes_by_category: dict[Category, int]
    modules: tuple[ModuleShare, ...]
    timeline: tuple[PhaseLevel, ...]


class MemorySaving(msgspec.Struct, frozen=True, kw_only=True):
    """A change to the training code that saves memory: predicted by another trace, not run."""

    #: Such as `bf16 autocast`.
    name: str
    #: One line of code to paste.
    how_to: str
    #: The largest that fits with it.
    max_micro_batch_size: int
    peak_bytes: int
    #: What it costs, and what the prediction assumes.
    note: str = ""


class MemorySavings(msgspec.Struct, frozen=True, kw_only=True):
    """The training as it is and with each change that helps, all by traces: predicted, not run."""

    #: The size that the allocated peaks are for.
    micro_batch_size: int
    max_micro_batch_size: int
    peak_bytes: int
    savings: tuple[MemorySaving, ...] = msgspec.field(default=(), name="remedies")


class MemoryShare(msgspec.Struct, frozen=True, kw_only=True):
    """What a part of the training state, such as `parameters` or `context`, takes at the peak."""

    part: str
    size_bytes: int


class ThroughputBound(msgspec.Struct, frozen=True, kw_only=True):
    """What no implementation can exceed on the card: the lower of two rates; not an estimate."""

    samples_per_s: float
    limited_by: Literal["arithmetic", "bandwidth"]
    #: At the dense peak of the data sheet, and at its bandwidth; None where either is unknown.
    arithmetic_per_s: float | None
    bandwidth_per_s: float | None


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """Training on one card that is not here: predicted, not run."""

    gpu: str
    memory_bytes: int
    #: `driver-reported`, `nominal` or `stated`.
    memory_source: str
    #: What CUDA programs can get of the memory.
    usable_bytes: int
    headroom_bytes: int
    #: What is left for tensors: usable, less context and headroom.
    capacity_bytes: int
    #: The largest that fits; 0 where not even the smallest does.
    max_micro_batch_size: Estimate
    limited_by: LimitedBy
    #: The size that the figures below are for: the one asked for, else the largest, if any.
    micro_batch_size: int | None = None
    #: Whether that size fits; None where the interval holds both.
    fits: bool | None = None
    allocated_bytes: Estimate | None = None
    reserved_bytes: Estimate | None = None
    #: Peak of the process as the driver sees it, the context included.
    device_used_bytes: Estimate | None = None
    breakdown: tuple[MemoryShare, ...] = ()
    bound: ThroughputBound | None = None
    #: None where no trace holds for that size.
    at_peak: Breakdown | None = None
    #: None where no change was traced.
    what_would_change: MemorySavings | None = None


CARDS = Slot("cards", CardsAsked)
#: One for every size, or one for each size where no trace serves all.
TRACES = Series("traces", MemoryTrace)
TRACED_CHANGES = Series("what_ifs", WhatIf)
PREDICTED_MEMORY = Slot("predicted_memory", PredictedMemory)
STEP_COST = Slot("step_cost", StepCost)
#: Held, not saved: the trace behind both.
TRACE = Slot("trace", MemoryTrace)
#: At the advised size, where memory limits it.
PEAK = Slot("peak", Breakdown)
WHAT_IFS = Series("what_ifs", PredictedWhatIf)
