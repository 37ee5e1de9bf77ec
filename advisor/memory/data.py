"""What is asked of memory, what was seen of it, and what follows: the types."""

from typing import ClassVar, Literal

import msgspec

from advisor.engine.record import Series
from advisor.engine.task import WorkloadTask
from advisor.predict.data import LimitedBy

#: Full training steps a memory probe runs: the first has no optimizer state yet, the second creates
#: the steady state, the third shows that it is steady.
MEMORY_PROBE_STEPS = 3


Outcome = Literal["fit", "oom", "error", "timeout", "spill"]


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One micro-batch size run in one worker process.

    Attributes:
        stage: Why it ran.
        session: Number of the pass over all sizes, counted over the run.
        micro_batch_size: Samples of one forward/backward.
        outcome: How it ended.
        steps: Full training steps that ran.
        step_times_s: Seconds for each step; one entry for each timed block (its mean).
        device_step_times_s: The same by the device's own events, GPUs only.
        enqueue_times_s: Seconds the host took to issue a step, same entries, GPUs only.
        micro_step_times_s: Seconds of forward and backward alone, one entry for each timed block.
        block_spans_s: When each timed block began and ended, by the machine's monotonic clock; same
            entries as `step_times_s`.
        block_steps: Steps of each block, same entries.
        is_steady: Whether warming up ended because two windows agreed (and on a GPU clock and
            temperature had settled); None where nothing was warmed up, or where the windows agreed
            but the GPU's clock and temperature are not known.
        recompiles: Times that `torch.compile` compiled the model anew for this size before its
            blocks; None where the model is not compiled.
        canary_times_s: Seconds of a fixed matrix product just before and just after the blocks of
            the process; the same in every probe of one process.
        canary_flops: Operations of that product.
        page_faults_per_step: Pages that the kernel had to give the process in each timed step; CPUs
            only.
        kernel_time_fraction: Share of the process's processor time in those steps that the kernel
            took; CPUs only.
        forward_backward_peak_bytes: Peak from the start of a step to its optimizer step, beyond the
            idle process; None on MPS, which has no peak counter.
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
    block_spans_s: tuple[tuple[float, float], ...] = ()
    block_steps: tuple[int, ...] = ()
    is_steady: bool | None = None
    recompiles: int | None = None
    canary_times_s: tuple[float, ...] = ()
    canary_flops: int | None = None
    page_faults_per_step: float | None = None
    kernel_time_fraction: float | None = None
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


MemoryMethod = Literal["guided", "affine"]


class MemoryConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The largest micro-batch and what ends it.

    Attributes:
        max_micro_batch_size: The largest size that ran all its steps.
        verified: True only where that size ran and the next one was seen not to fit, or where
            something other than memory limits.
        limited_by: What ends the search.
        fixed_bytes: Memory at batch size zero in the phase that binds.
        bytes_per_sample: Its slope.
        capacity_bytes: The enforced limit, headroom already taken off.
        headroom_bytes: Kept free below the limit.
        smallest_failed: The smallest size seen not to fit.
        probes: Probes run.
        ooms: How many of them ran out of memory.
        upper_bound: The smallest size proven not to fit above the largest that ran; None where none
            was seen.
        largest_without_retries: The largest size that ran without the caching allocator having to
            flush and try again; CUDA only.
        headroom_at_max_bytes: What the largest size leaves of the limit, by its measured peak.
        method: `guided` where a prediction from the model's trace led the search, `affine` where
            the probes alone did.
        disturbances: What the surroundings did to the search: a fact and what to do about it, each.
    """

    max_micro_batch_size: int | None
    verified: bool
    limited_by: LimitedBy
    fixed_bytes: float | None
    bytes_per_sample: float | None
    capacity_bytes: int | None
    headroom_bytes: int
    smallest_failed: int | None
    probes: int
    ooms: int
    upper_bound: int | None = None
    largest_without_retries: int | None = None
    headroom_at_max_bytes: int | None = None
    method: MemoryMethod = "affine"
    disturbances: tuple[str, ...] = ()


class MemoryTask(WorkloadTask[Probe], frozen=True, kw_only=True):
    """Run full training steps at one micro-batch size under an enforced limit.

    Attributes:
        micro_batch_size: Samples of one forward/backward.
        capacity_bytes: The enforced limit on what training takes beyond the idle process; None
            enforces nothing.
        largest_samples: Dataset indices, largest sample first, that fill the worst-case batch;
            empty where all samples have one size.
        steps: Full training steps to run.
    """

    runs: ClassVar[str] = "advisor.memory.measure:run"

    micro_batch_size: int
    capacity_bytes: int | None
    largest_samples: tuple[int, ...] = ()
    steps: int = MEMORY_PROBE_STEPS


PROBES = Series("probes", Probe)
