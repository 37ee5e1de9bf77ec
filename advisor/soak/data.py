"""What is asked of a soak, what was seen of it, and what follows."""

from typing import ClassVar

import msgspec

from advisor.engine.record import Series
from advisor.engine.task import WorkloadTask
from advisor.figures import Bytes, Count, Duration, Signed, Size
from advisor.memory.data import Outcome
from advisor.statistics import Estimate


class SoakFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What ran of a longer training at one size; None where the device counts none, or none ran."""

    micro_batch_size: Size
    steps: Count = 0
    evaluations: Count = 0
    #: Beyond the idle process, as the next two.
    training_peak_bytes: Bytes | None = None
    evaluation_peak_bytes: Bytes | None = None
    #: While the training state was copied.
    reserve_peak_bytes: Bytes | None = None
    message: str | None = None


class Soak(SoakFigures, frozen=True, kw_only=True):
    """A longer training run at one size: whether what fitted for three steps still fits."""

    gradient_accumulation_steps: Size = 1
    outcome: Outcome
    #: Taken after each step, beyond the idle process.
    held_bytes: tuple[Signed, ...] = ()
    step_times_s: tuple[Duration, ...] = ()
    capacity_bytes: Bytes | None = None


class SoakTask(WorkloadTask[Soak], frozen=True, kw_only=True):
    """Train for longer at one size under the enforced limit, with evaluations in between."""

    runs: ClassVar[str] = "advisor.soak.measure:run"
    runs_script: ClassVar[str] = "advisor.soak.measure:run_script"
    merges_ranks: ClassVar[str] = "advisor.soak.plan:merge_ranks"

    micro_batch_size: int
    gradient_accumulation_steps: int
    capacity_bytes: int | None
    #: As in `MemoryTask`; this batch is the first of those that run.
    largest_samples: tuple[int, ...] = ()
    steps: int
    #: Evaluation passes between them, evenly spaced.
    evaluations: int
    reserve: bool = False
    #: No further step is started after this long.
    budget_s: float


class SoakConclusion(SoakFigures, frozen=True, kw_only=True):
    """Whether the size that was soaked last still fits after more than a few steps."""

    #: False where memory ran out or leaks; None where the soak was too short to tell.
    holds: bool | None
    #: Whether enough steps ran to tell a leak from noise.
    is_growth_tested: bool
    #: None where memory does not rise, or it was not tested.
    growth_bytes_per_step: Estimate | None
    steps_until_full: int | None
    evaluation_needs_more: bool
    #: Micro-batches that ran out of memory by their size, in the order they ran.
    failed: tuple[int, ...] = ()


SOAKS = Series("soaks", Soak)
