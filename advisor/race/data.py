"""What a race of pairs is run with, and what it shows: the types."""

from typing import Literal

import msgspec

from advisor.engine.record import Slot
from advisor.rate.curves import is_same
from advisor.rate.data import PairKey, TrainedAt
from advisor.statistics import Estimate

#: Of a pair: beaten or level; perhaps ahead; surely ahead, from fresh starts; did not train; not
#: trained for long enough to be compared.
Standing = Literal["behind", "ahead", "confirmed", "failed", "too_short"]

#: Why the base pair was not trained where nothing failed; without a full stop.
UNTRAINED = Slot("untrained_because", str)


class BasePair(msgspec.Struct, frozen=True, kw_only=True):
    """The pair that all others are measured by."""

    global_batch_size: int
    learning_rate: float
    #: Whether it is the user's own; else it stands in, as the range test found it.
    is_own: bool = True

    @property
    def key(self) -> PairKey:
        """What it is told apart by."""
        return self.global_batch_size, self.learning_rate


class PairResult(TrainedAt, frozen=True, kw_only=True):
    """What training showed of one pair beside the base pair."""

    standing: Standing
    #: R: the time to the lowest loss that both pairs reached, over the base pair's, in the user's
    #: loop. From fresh starts where those were run; None where it diverged or nothing was shared.
    time_ratio: Estimate | None = None
    #: The samples to that loss over the base pair's, by training alone: they depend on no device.
    sample_ratio: Estimate | None = None
    #: R where the rate falls in the end, beside one at a constant rate.
    end_time_ratio: float | None = None
    #: Log of R, with the standard error and the degrees of freedom that its interval is made of.
    log_ratio: float | None = None
    error: float | None = None
    degrees_of_freedom: float | None = None
    #: Starts that both pairs were trained from, and those of them that chose nothing.
    starts: int = 0
    fresh_starts: int = 0
    #: With which it was trained, in place of the optimizer's own.
    beta2: float | None = None
    weight_decay: float | None = None
    #: What befell it, without a full stop.
    reason: str = ""


class Race(msgspec.Struct, frozen=True, kw_only=True):
    """All pairs that were trained, and the one that won."""

    #: None where no pair can be compared with: no rate is known, or none was found.
    base: BasePair | None = None
    #: Whether the base pair trains; None where it was not run.
    does_base_train: bool | None = None
    #: Why there is no race, or what befell the base pair; without a full stop.
    reason: str = ""
    #: Steps of the base pair's longest branch: the window that the ratios hold for.
    base_steps: int = 0
    pairs: tuple[PairResult, ...] = ()
    #: That is surely faster than the base pair; None where none is.
    winner: PairResult | None = None

    def find(self, pair: PairKey) -> PairResult | None:
        """Return what was seen of a pair; None where it was not trained."""
        return next((each for each in self.pairs if is_same(each.key, pair)), None)
