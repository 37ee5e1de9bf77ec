"""A training step as a list of allocations, each an affine function of the batch size.

A block is one storage. Its size is fixed_bytes + bytes_per_sample · B. `events` is the order in
which blocks are allocated and freed over three training steps:

    setup | step 1: forward, backward, optimizer | step 2: ... | step 3: ...
    parameters, buffers, the batch

The trace knows no allocator: sizes are those of the storages, unrounded.
"""

from typing import Literal

import msgspec

from advisor.figures import Signed, Size
from advisor.predict.buffers import EmbeddingGradient, Reduction

#: Training steps of a trace and of a memory probe: the first has no optimizer state yet, the second
#: creates the steady state, the third shows that it is steady.
TRACED_STEPS = 3

#: Where a storage is several, it counts as the first of these.
Category = Literal["parameter", "input", "gradient", "optimizer_state", "activation", "temporary"]
Phase = Literal["setup", "forward", "backward", "optimizer"]
Operators = Literal["cpu", "cuda"]
TraceMethod = Literal["symbolic", "per_size", "measured"]
Change = Literal["bf16", "checkpointing", "foreach_off", "state_8bit"]


class TraceBlock(msgspec.Struct, frozen=True, array_like=True):
    """One storage."""

    #: Size at batch 0, by the line through the traced sizes; may be negative.
    fixed_bytes: Signed
    #: Slope; 0 where the trace holds for one size only.
    bytes_per_sample: Signed
    #: What it holds. `activation`: made in the forward pass and still there when the backward pass
    #: begins. `temporary`: everything that fits no other.
    category: Category
    #: Index into `MemoryTrace.modules` of the module in whose call it was made; -1 for none.
    module: int = -1


class PhaseMark(msgspec.Struct, frozen=True, array_like=True):
    """Where a phase begins."""

    phase: Phase
    step: int  #: From 1; 0 for the setup.
    first_event: int  #: Index into `MemoryTrace.events`.


class MemoryTrace(msgspec.Struct, frozen=True, kw_only=True):
    """The allocations of three training steps."""

    #: Whose operators were traced: `cuda` has its attention, dropout and autocast.
    operators: Operators
    #: `symbolic`: one trace for every size. `per_size`: holds at `traced_sizes[0]` only.
    #: `measured`: recorded in real runs on the CPU, at one size or at several that agree.
    method: TraceMethod
    #: Micro-batch sizes that were run, in samples.
    traced_sizes: tuple[Size, ...]
    #: Every storage.
    blocks: tuple[TraceBlock, ...]
    #: `i` where block i is allocated, `-1 - i` where it is freed, in order.
    events: tuple[int, ...]
    #: Ascending by `first_event`; the first is the setup.
    phases: tuple[PhaseMark, ...]
    #: Dotted names as in `named_modules()`; the model itself is "".
    modules: tuple[str, ...]
    #: Why it is not symbolic, in one sentence; None where it is.
    reason: str | None = None
    #: Floating-point operations of the last step at batch 0; None where they are not affine.
    flops_fixed: Signed | None = None
    #: Their slope.
    flops_per_sample: Signed | None = None
    #: What the trace leaves out or assumes, one sentence each.
    notes: tuple[str, ...] = ()
    #: Names of the blocks that recompute their activations as a what-if.
    checkpointed: tuple[str, ...] = ()
    #: Those that take a buffer by the card; their blocks take nothing by themselves.
    reductions: tuple[Reduction, ...] = ()
    #: Gradients of tables that take buffers; the same holds for their blocks.
    embeddings: tuple[EmbeddingGradient, ...] = ()
    #: Blocks that stand for a matrix library's workspace in each thread; None where none was looked
    #: for.
    workspaces: tuple[int, ...] | None = None
    #: Whether products of fp32 may run as TF32 on a GPU: those of convolutions do as torch comes,
    #: those of matrices where the code asks for it.
    uses_tf32: bool = True

    @property
    def serves_every_size(self) -> bool:
        """Whether the sizes of blocks are known as functions of the batch size."""
        return len(self.traced_sizes) > 1
