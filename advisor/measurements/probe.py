"""What one worker process saw of one micro-batch size."""

from typing import Literal

import msgspec

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
        training_peak_bytes: Peak over the training steps, likewise; None on MPS, as are the others.
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
