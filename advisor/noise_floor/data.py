"""What is asked of noise_floor, what was seen of it, and what follows: the types."""

import msgspec

from advisor.statistics import Estimate


class SelfComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The same training timed in many sessions: what differs is the machine's.

    Attributes:
        micro_batch_size: In samples.
        sessions: Processes that were timed.
        spread_fraction: Standard deviation of the sessions' step times, on the log scale; None
            below two sessions.
        ratio: Throughput of every second session over that of the others; the truth is 1.
        smallest_effects: By sessions on each side of a comparison, the relative change that it
            finds in four of five cases at 95 % confidence.
        disturbances: What disturbed the sessions, a sentence each.
    """

    micro_batch_size: int
    sessions: int
    spread_fraction: float | None
    ratio: Estimate
    smallest_effects: dict[int, float] = {}
    disturbances: tuple[str, ...] = ()
