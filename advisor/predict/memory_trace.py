"""A training step as a list of allocations, each an affine function of the batch size.

A block is one storage. Its size is fixed_bytes + bytes_per_sample · B. `events` is the order in
which blocks are allocated and freed over three training steps:

    setup | step 1: forward, backward, optimizer | step 2: ... | step 3: ...
    parameters, buffers, the batch

The trace knows no allocator: sizes are those of the storages, unrounded.
"""

from typing import Literal

import msgspec

Category = Literal["parameter", "gradient", "optimizer_state", "activation", "input", "temporary"]
Phase = Literal["setup", "forward", "backward", "optimizer"]
Operators = Literal["cpu", "cuda"]
TraceMethod = Literal["symbolic", "per_size", "measured"]
Change = Literal["bf16", "checkpointing", "foreach_off", "state_8bit"]


class TraceBlock(msgspec.Struct, frozen=True, array_like=True):
    """One storage.

    Attributes:
        fixed_bytes: Size at batch 0, by the line through the traced sizes; may be negative.
        bytes_per_sample: Slope; 0 where the trace holds for one size only.
        category: What it holds. `activation`: made in the forward pass and still there when the
            backward pass begins. `temporary`: everything that fits no other.
        module: Index into `MemoryTrace.modules` of the module in whose call it was made; -1 for
            none.
    """

    fixed_bytes: int
    bytes_per_sample: int
    category: Category
    module: int = -1


class PhaseMark(msgspec.Struct, frozen=True, array_like=True):
    """Where a phase begins.

    Attributes:
        phase: Which.
        step: Training step from 1; 0 for the setup.
        first_event: Index into `events` of the first event of the phase.
    """

    phase: Phase
    step: int
    first_event: int


class MemoryTrace(msgspec.Struct, frozen=True, kw_only=True):
    """The allocations of three training steps.

    Attributes:
        operators: Whose operators were traced: `cuda` has its attention, dropout and autocast.
        method: `symbolic`: one trace for every size. `per_size`: holds at `traced_sizes[0]` only.
            `measured`: recorded in real runs on the CPU, at one size or at several that agree.
        traced_sizes: Micro-batch sizes that were run, in samples.
        reason: Why it is not symbolic, in one sentence; None where it is.
        blocks: Every storage.
        events: `i` where block i is allocated, `-1 - i` where it is freed, in order.
        phases: Ascending by `first_event`; the first is the setup.
        modules: Dotted names as in `named_modules()`; the model itself is "".
        flops_fixed: Floating-point operations of the last step (forward and backward) at batch 0.
        flops_per_sample: Their slope.
        notes: What the trace leaves out or assumes, one sentence each.
        checkpointed: Names of the blocks that recompute their activations as a what-if.
    """

    operators: Operators
    method: TraceMethod
    traced_sizes: tuple[int, ...]
    blocks: tuple[TraceBlock, ...]
    events: tuple[int, ...]
    phases: tuple[PhaseMark, ...]
    modules: tuple[str, ...]
    reason: str | None = None
    flops_fixed: int | None = None
    flops_per_sample: int | None = None
    notes: tuple[str, ...] = ()
    checkpointed: tuple[str, ...] = ()

    @property
    def serves_every_size(self) -> bool:
        """Whether the sizes of blocks are known as functions of the batch size."""
        return len(self.traced_sizes) > 1


class AffinePiece(msgspec.Struct, frozen=True, array_like=True):
    """One affine piece of a peak: fixed_bytes + bytes_per_sample · B."""

    fixed_bytes: int
    bytes_per_sample: int


class PredictedMemory(msgspec.Struct, frozen=True, kw_only=True):
    """The peaks of a training step by its trace, for every batch size.

    The peak of each phase is the largest of its pieces: every point of the step is affine in the
    batch size, so the peak is convex, and its upper hull has a handful of pieces.

    Attributes:
        operators: Whose operators were traced.
        forward_backward: Pieces of the peak from the start of a step to its optimizer step, in
            ascending slope; unrounded sizes of storages.
        optimizer: Pieces of the peak of the optimizer step, likewise.
        unusable_bytes: What of the limit the device's allocator cannot use at the largest size, by
            simulation; 0 where it was not simulated.
        notes: What the trace leaves out or assumes, one sentence each.
    """

    operators: Operators
    forward_backward: tuple[AffinePiece, ...]
    optimizer: tuple[AffinePiece, ...]
    unusable_bytes: int = 0
    notes: tuple[str, ...] = ()


class StepCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one training step must do at the least, by its trace, for every batch size.

    Attributes:
        flops_fixed: Floating-point operations whatever the size; None where they were not counted.
        flops_per_sample: Those that each sample adds.
        moved_fixed_bytes: Bytes read and written whatever the size, at the least.
        moved_bytes_per_sample: Those that each sample adds.
    """

    flops_fixed: int | None
    flops_per_sample: int | None
    moved_fixed_bytes: int
    moved_bytes_per_sample: int


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """The same training, traced again with one change to its code."""

    change: Change
    trace: MemoryTrace


class PredictedWhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """The peaks of the same training with one change to its code.

    Attributes:
        change: Which.
        memory: For every batch size.
        more_flops_fraction: Floating-point operations added to a step, as a share of those without
            the change; None where they could not be counted.
        how_to: As in `Remedy`.
    """

    change: Change
    memory: PredictedMemory
    more_flops_fraction: float | None = None
    how_to: str = ""
