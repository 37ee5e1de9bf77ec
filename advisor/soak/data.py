"""What is asked of soak, what was seen of it, and what follows: the types."""

from typing import ClassVar

import msgspec

from advisor.engine.record import Series
from advisor.engine.task import WorkloadTask
from advisor.memory.data import (
    Outcome,
)
from advisor.statistics import Estimate


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


class SoakTask(WorkloadTask[Soak], frozen=True, kw_only=True):
    """Train for longer at one size under the enforced limit, with evaluations in between.

    Attributes:
        micro_batch_size: Samples of one forward/backward.
        gradient_accumulation_steps: Forward/backward passes for each optimizer step.
        capacity_bytes: As in `MemoryTask`.
        largest_samples: As in `MemoryTask`; this batch is one of those that run.
        steps: Most optimizer steps.
        evaluations: Evaluation passes of the model between them, evenly spaced.
        reserve: Whether to copy the state of model and optimizer once, as a checkpoint does.
        budget_s: No further step is started after this long.
    """

    runs: ClassVar[str] = "advisor.soak.measure:run"

    micro_batch_size: int
    gradient_accumulation_steps: int
    capacity_bytes: int | None
    largest_samples: tuple[int, ...] = ()
    steps: int
    evaluations: int
    reserve: bool = False
    budget_s: float


SOAKS = Series("soaks", Soak)
