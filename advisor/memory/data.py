"""What is asked of memory, what was seen of it, and what follows."""

from collections.abc import Iterable
from typing import ClassVar, Literal

import msgspec

from advisor.engine.record import Series
from advisor.engine.task import WorkloadTask
from advisor.figures import Bytes, Count, Duration, Figure, Seconds, Size
from advisor.predict.data import LimitedBy
from advisor.predict.memory_trace import TRACED_STEPS

#: Steps of a script that a probe takes at least: the first begins with the script, and one more
#: does not show the optimizer's state beside a pass.
LEAST_STEPS = 3

#: `kernel` where one takes no batch of the size, whatever the memory; `refused` by the model.
Outcome = Literal["fit", "oom", "kernel", "refused", "error", "timeout", "spill"]
#: What led the search: a prediction from the model's trace, or the probes alone.
MemoryMethod = Literal["guided", "affine"]


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One micro-batch size run in one worker process.

    Peaks are beyond the idle process. What is None was not, or cannot be, measured.
    """

    stage: Literal["memory", "throughput"]
    #: Number of the pass over all sizes, counted over the run.
    session: Count
    micro_batch_size: Size
    outcome: Outcome
    steps: Count = 0
    #: Of each step; of throughput one entry for each timed block, its mean.
    step_times_s: tuple[Seconds, ...] = ()
    #: The same by the device's own events, GPUs only.
    device_step_times_s: tuple[Duration, ...] = ()
    #: Of each timed block, what a tenth of its steps stayed below, CPUs only.
    low_step_times_s: tuple[Seconds, ...] = ()
    #: The least of these and of the windows of the warm-up, CPUs only: where a neighbour disturbs
    #: most steps, the blocks alone may hold none that it did not.
    fastest_step_s: Seconds | None = None
    #: What the host took to issue a step, same entries, GPUs only.
    enqueue_times_s: tuple[Duration, ...] = ()
    #: From the load of the user's file to the end of the first step.
    first_step_s: Seconds | None = None
    #: Forward and backward alone, one entry for each timed block.
    micro_step_times_s: tuple[Duration, ...] = ()
    #: When each timed block began and ended, by the machine's monotonic clock.
    block_spans_s: tuple[tuple[Duration, Duration], ...] = ()
    block_steps: tuple[Count, ...] = ()
    #: Whether warming up ended because two windows agreed (and on a GPU clock and temperature had
    #: settled); None also where the windows agreed but clock and temperature are not known.
    is_steady: bool | None = None
    #: Times that `torch.compile` compiled the model anew for this size before its blocks.
    recompiles: Count | None = None
    #: A fixed matrix product just before and just after all blocks of the process.
    canary_times_s: tuple[Seconds, ...] = ()
    canary_flops: Count | None = None
    #: Pages that the kernel had to give the process, CPUs only.
    page_faults_per_step: Figure | None = None
    #: Share of the process's processor time in the timed steps, CPUs only.
    kernel_time_fraction: Figure | None = None
    #: From the start of a step to its optimizer step.
    forward_backward_peak_bytes: Bytes | None = None
    optimizer_peak_bytes: Bytes | None = None
    #: Tensors alone, GPUs only.
    peak_allocated_bytes: Bytes | None = None
    #: By the caching allocator, GPUs only.
    peak_reserved_bytes: Bytes | None = None
    #: By the driver or the kernel for the process.
    peak_device_used_bytes: Bytes | None = None
    #: Of what counts against the limit, where that is another figure: the heap on Linux CPUs.
    limit_peak_bytes: Bytes | None = None
    #: Times the caching allocator had to flush and try again, CUDA only.
    alloc_retries: Count | None = None
    #: Free on the device when the worker began.
    available_bytes: Bytes | None = None
    #: By how much more of the process was moved out of memory at the end, Linux CPUs only.
    swapped_bytes: Bytes | None = None
    capacity_bytes: Bytes | None = None
    #: By how much each step leaves more memory taken; None where none.
    growth_bytes_per_step: Bytes | None = None
    #: Share of the time that training waited for data, of a script.
    waiting_fraction: Figure | None = None
    #: Of a step in which ranks exchange nothing, each rank's own.
    rank_step_times_s: tuple[Seconds, ...] = ()
    #: Whether a step of two such micro-batches ran too, GPUs only.
    accumulates: bool | None = None
    #: In which this process alone took such a batch from the user's data, for the first time.
    batch_s: float | None = None
    #: What a failure said, in one line.
    message: str | None = None

    @property
    def step_peak_bytes(self) -> int | None:
        """The largest of both phases."""
        return find_largest(self.forward_backward_peak_bytes, self.optimizer_peak_bytes)

    @property
    def peak_bytes(self) -> int | None:
        """The measured peak, in the currency of the limit where that is known."""
        return self.step_peak_bytes if self.limit_peak_bytes is None else self.limit_peak_bytes

    @property
    def calm_step_times_s(self) -> tuple[float, ...]:
        """Of each timed block, as little disturbed as is known: neighbours speed no step up."""
        return self.low_step_times_s or self.step_times_s


def find_largest(*peaks: int | None) -> int | None:
    """Return the largest of the known peaks, None where none is known."""
    return max((peak for peak in peaks if peak is not None), default=None)


def list_sizes(probes: Iterable[Probe], *outcomes: Outcome) -> list[int]:
    """Return the sizes that ended so, in the order they were tried."""
    return [probe.micro_batch_size for probe in probes if probe.outcome in outcomes]


class MemoryTask(WorkloadTask[Probe], frozen=True, kw_only=True):
    """Run full training steps at one micro-batch size under an enforced limit."""

    runs: ClassVar[str] = "advisor.memory.measure:run"
    runs_script: ClassVar[str] = "advisor.memory.measure_script:run"
    merges_ranks: ClassVar[str] = "advisor.memory.plan:merge_probes"

    micro_batch_size: int
    #: On what training takes beyond the idle process; None enforces nothing.
    capacity_bytes: int | None
    #: Dataset indices, largest sample first; empty where all samples have one size.
    largest_samples: tuple[int, ...] = ()
    steps: int = TRACED_STEPS

    def end(self, outcome: Outcome, message: str | None = None) -> Probe:
        """Return the probe of a size that ended so before anything was seen."""
        return Probe(
            stage="memory",
            session=0,
            micro_batch_size=self.micro_batch_size,
            outcome=outcome,
            capacity_bytes=self.capacity_bytes,
            message=message,
        )


PROBES = Series("probes", Probe, "probe")


class MemoryConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The largest micro-batch and what ends it."""

    #: The largest that ran all its steps.
    max_micro_batch_size: int | None
    #: True only where the next size was seen not to fit, or something else than memory limits.
    verified: bool
    limited_by: LimitedBy
    #: At batch size zero, in the phase that binds.
    fixed_bytes: float | None
    bytes_per_sample: float | None
    #: The enforced limit, headroom already taken off.
    capacity_bytes: int | None
    headroom_bytes: int
    #: The smallest size seen not to fit.
    smallest_failed: int | None
    probes: int
    #: How many of them ran out of memory.
    ooms: int
    #: The smallest size seen not to fit above the largest that ran.
    upper_bound: int | None = None
    #: Sizes that the model itself does not run, and what it said of the first.
    refused: tuple[int, ...] = ()
    refusal: str | None = None
    #: The largest that steps of several micro-batches are known to fit with.
    largest_accumulating: int | None = None
    #: The largest that ran without the caching allocator having to flush, CUDA only.
    largest_without_retries: int | None = None
    #: What the largest size leaves of the limit, by its measured peak.
    headroom_at_max_bytes: int | None = None
    method: MemoryMethod = "affine"
    #: What the surroundings did to the search: a fact and what to do about it, each.
    disturbances: tuple[str, ...] = ()
