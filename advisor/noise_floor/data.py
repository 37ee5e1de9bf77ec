"""What is asked of a model timed against itself, and what follows: the types."""

import msgspec

from advisor.engine.record import Slot
from advisor.figures import Size
from advisor.statistics import Estimate

#: Samples of each step; None takes the base batch, or 32, and no more than the dataset has.
MICRO_BATCH_SIZE = Slot("micro_batch_size", int, Size)


class NoiseFloor(msgspec.Struct, frozen=True, kw_only=True):
    """The same training timed in many sessions: what differs is the machine's."""

    micro_batch_size: int
    #: Processes that were timed.
    sessions: int
    #: Standard deviation of their step times, on the log scale; None below two sessions.
    spread_fraction: float | None
    #: Throughput of every second session over that of the others; the truth is 1.
    ratio: Estimate
    #: By sessions of a check, the relative change that it finds in four of five cases beside a
    #: baseline of the usual length.
    smallest_effects: dict[int, float] = {}
    #: A sentence each.
    disturbances: tuple[str, ...] = ()
