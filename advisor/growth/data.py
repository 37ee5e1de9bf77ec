"""What is trained of a batch that grows, and what was seen: the types."""

import math
from typing import ClassVar, Literal

import msgspec

from advisor.engine.record import Series, Slot
from advisor.engine.task import WorkloadTask
from advisor.figures import Count, Figure, Weight
from advisor.memory.split import MicroBatches
from advisor.rate.data import OptimizerChanges, TrialTask

#: How the rate goes along a branch, times what its legs say: as the user's own scheduler has it,
#: level and falling to 0 in the end where there is none; as a cosine; not at all.
RateCourse = Literal["own", "cosine", "legs"]


def find_cosine(share: float) -> float:
    """Return what a cosine schedule leaves of the rate after a share of its length."""
    return (1.0 + math.cos(math.pi * share)) / 2.0


class Leg(MicroBatches, frozen=True, kw_only=True):
    """Some optimizer steps at one batch."""

    steps: Count
    #: Over the branch's own rate.
    rate_ratio: Weight = 1.0

    @property
    def global_batch_size(self) -> int:
        """Samples of one optimizer step."""
        return self.micro_batch_size * self.gradient_accumulation_steps

    @property
    def samples(self) -> int:
        """Samples of all steps."""
        return self.steps * self.global_batch_size


Legs = tuple[Leg, ...]


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that grows, and the constant one that it is to beat, over as many samples."""

    growing: Legs
    constant: Legs
    rate_course: RateCourse
    learning_rate: float
    changes: OptimizerChanges = OptimizerChanges()

    @property
    def is_stretched(self) -> bool:
        """Whether legs are shares of a run of any length: else they begin after so many samples."""
        return self.rate_course != "own"


class GrowthBranch(msgspec.Struct, frozen=True, kw_only=True):
    """One short training run, of the growing batch or of the constant one."""

    is_growing: bool
    legs: Legs
    rate_course: RateCourse
    learning_rate: Figure
    seed: int
    #: At the end, on samples fixed for all; None where it was not finite.
    loss: Figure | None


class GrowthTask(WorkloadTask[GrowthBranch], frozen=True, kw_only=True):
    """Train branches of legs, each from every seed of a trial, whose other settings they have."""

    runs: ClassVar[str] = "advisor.growth.measure:run"

    growing: tuple[Legs, ...]
    constant: tuple[Legs, ...]
    rate_course: RateCourse
    trial: TrialTask


GROWTH_BRANCHES = Series("schedule_trials", GrowthBranch)
#: Why a schedule that the law proposes was not trained; without a full stop.
UNGROWN = Slot("schedule_untrained_because", str)
