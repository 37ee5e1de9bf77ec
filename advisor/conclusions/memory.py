"""What the memory probes say."""

from typing import Literal

import msgspec

from advisor.statistics import Estimate

LimitedBy = Literal["memory", "dataset", "cap", "budget"]
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


class SoakConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the advised micro-batch still fits after more than a few steps.

    Attributes:
        micro_batch_size: The size that was soaked last.
        holds: False where memory ran out or leaks; None where the soak was too short to tell.
        steps: Optimizer steps that ran.
        evaluations: Evaluation passes that ran between them.
        training_peak_bytes: Peak over the training steps, beyond the idle process.
        evaluation_peak_bytes: Peak over the evaluation passes, likewise; None where none ran.
        reserve_peak_bytes: Peak while the training state was copied; None where it was not.
        is_growth_tested: Whether enough steps ran to tell a leak from noise.
        growth_bytes_per_step: How fast memory rises; None where it does not, or was not tested.
        steps_until_full: Optimizer steps after which that fills the limit; None without growth or
            without a limit.
        evaluation_needs_more: Whether evaluating takes more memory than training.
        failed: Micro-batches that ran out of memory when soaked, in the order they ran.
        message: What the last failure said.
    """

    micro_batch_size: int
    holds: bool | None
    steps: int
    evaluations: int
    training_peak_bytes: int | None
    evaluation_peak_bytes: int | None
    reserve_peak_bytes: int | None
    is_growth_tested: bool
    growth_bytes_per_step: Estimate | None
    steps_until_full: int | None
    evaluation_needs_more: bool
    failed: tuple[int, ...] = ()
    message: str | None = None
