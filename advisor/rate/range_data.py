"""What is asked of a range test of learning rates, what was seen, and what follows: the types."""

from typing import ClassVar, Literal

import msgspec

from advisor.engine.record import Series, Slot
from advisor.figures import Count, Figure, Size, Weight
from advisor.memory.split import GlobalBatch
from advisor.rate.data import BranchTask


class LrRangeCurve(GlobalBatch, frozen=True, kw_only=True):
    """One training run in which the learning rate rose with every step."""

    #: Of the whole range, of which the curve may have fewer.
    steps: Count
    seed: int
    #: Of each step, in the first parameter group; ascending.
    rates: tuple[Weight, ...]
    #: Of the step's own batch before the step; the last is None where it was not finite.
    losses: tuple[Figure | None, ...]
    #: The end of the range, a loss not finite or far above its best, or the time.
    stopped_by: Literal["range", "divergence", "budget"]

    def __post_init__(self) -> None:
        """Refuse losses that are not one for each rate."""
        if len(self.rates) != len(self.losses):
            raise ValueError("`losses` is not as long as `rates`")


class LrRangeTask(BranchTask[LrRangeCurve], frozen=True, kw_only=True):
    """Train while the learning rate rises by one factor with every step: a range test."""

    runs: ClassVar[str] = "advisor.rate.measure_range:run"
    runs_script: ClassVar[str] = "advisor.rate.measure_script:run_range"

    #: Of the first step and of the last, in the first parameter group; others keep their ratio.
    low_rate: float
    high_rate: float
    #: Fewer where the time does not suffice.
    steps: int
    #: Fewest worth running, two at least.
    least_steps: int = 60


class LrRangeSeed(msgspec.Struct, frozen=True, kw_only=True):
    """Where the smoothed curve of one seed turns, by the rates of its steps."""

    seed: int
    #: Level before the rate does anything, and where it is lowest.
    first_loss: float
    lowest_loss: float
    #: From here on it stays clearly below the first; None, as the next two, where it never did.
    learns_from: float | None = None
    #: Where it falls fastest in the logarithm of the rate.
    steepest_at: float | None = None
    #: From where on it is as low as it gets, within its noise.
    lowest_at: float | None = None
    #: From here on it is clearly above its lowest; None where the curve ends first.
    diverges_at: float | None = None


class LrRangeConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The good rates at one batch, by a range test."""

    status: Literal["found", "inconclusive"]
    #: Why there is no rate, or what it rests on; without a full stop.
    reason: str
    global_batch_size: int | None = None
    #: From here on every seed learns.
    low: float | None = None
    #: Up to here no seed diverges; None where none did in the whole range.
    high: float | None = None
    suggested: float | None = None
    #: Where a one-cycle schedule may have its peak, and where it may start.
    one_cycle_maximum: float | None = None
    one_cycle_base: float | None = None
    seeds: tuple[LrRangeSeed, ...] = ()

    @property
    def fall(self) -> float:
        """Median over the seeds that learnt of how far the smoothed loss fell; 0 without any."""
        falls = sorted(
            each.first_loss - each.lowest_loss for each in self.seeds if each.lowest_at is not None
        )
        return falls[len(falls) // 2] if falls else 0.0


class RangePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What `lr-range` is asked; what is None is filled in once the model file is known."""

    #: The base batch, or 32, and no more than the dataset has.
    global_batch_size: Size | None = None
    #: The whole batch.
    micro_batch_size: Size | None = None
    gradient_accumulation_steps: Size | None = None
    #: Around the optimizer's own rate; of the first parameter group.
    low_rate: Weight | None = None
    high_rate: Weight | None = None
    #: Of each curve, where the time allows.
    steps: Count = 200
    seeds: Count = 3


LR_RANGES = Series("lr_ranges", LrRangeCurve, noun="curve")
RANGE = Slot("range", RangePlan)
