"""What a learning-rate range test says."""

from typing import Literal

import msgspec

from advisor.conclusions.recommendation import LearningRate

LrRangeStatus = Literal["found", "inconclusive"]


class LrRangeSeed(msgspec.Struct, frozen=True, kw_only=True):
    """Where the smoothed curve of one seed turns; rates are those of its steps.

    Attributes:
        first_loss: Level before the rate does anything.
        lowest_loss: Level where the smoothed loss is lowest.
        learns_from: From this rate on the loss stays clearly below the first; None where it never
            fell clearly.
        steepest_at: Where it falls fastest in the logarithm of the rate; likewise.
        lowest_at: From where on it is as low as it gets, within its noise; likewise.
        diverges_at: From here on it is clearly above its lowest; None where the curve ends first.
    """

    seed: int
    first_loss: float
    lowest_loss: float
    learns_from: float | None = None
    steepest_at: float | None = None
    lowest_at: float | None = None
    diverges_at: float | None = None


class LrRangeConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The good rates at one batch, by a range test.

    Attributes:
        reason: One sentence without its full stop: why there is no rate, or what it rests on.
        low: From here on every seed learns.
        high: Up to here no seed diverges; None where none did in the whole range.
        suggested: The rate to start a trial from.
        one_cycle_maximum: Where a one-cycle schedule may have its peak.
        one_cycle_base: Where such a schedule may start.
    """

    status: LrRangeStatus
    reason: str
    global_batch_size: int | None = None
    low: float | None = None
    high: float | None = None
    suggested: float | None = None
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


class DerivedLrRange(msgspec.Struct, frozen=True, kw_only=True):
    """Every conclusion of `bsadvisor lr-range`.

    Attributes:
        lr_range: By the range test alone; None before its first curve.
        learning_rate: What may be advised: a rate that trained at the same batch from fresh starts.
    """

    lr_range: LrRangeConclusion | None = None
    learning_rate: LearningRate | None = None
