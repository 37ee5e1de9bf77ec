"""What holds the memory at its peak, and what would change it."""

import msgspec

from advisor.memory_trace import Category, Phase


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
