"""What was seen of several ranks, and what follows: the types."""

import msgspec

from advisor.engine.record import Series
from advisor.figures import Count, Size
from advisor.memory.data import Probe
from advisor.statistics import Estimate


class RankProbe(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of so many ranks, each with the same samples."""

    ranks: Size
    #: Number of the turn in which each number of ranks was timed once.
    turn: Count
    probe: Probe


class RankPoint(msgspec.Struct, frozen=True, kw_only=True):
    """So many ranks at as many samples for each."""

    ranks: int
    #: Samples of a step of all ranks.
    global_batch_size: int
    samples_per_s: Estimate
    #: Speed over that of as many single ranks.
    efficiency: Estimate
    #: Time to train over that of all ranks, by noise and speed; None without a noise scale.
    relative_time: float | None = None
    #: The same of the GPU time.
    relative_cost: float | None = None


class RanksConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchange costs, who is slow, and what each number of ranks gains."""

    ranks: int
    global_batch_size: int
    #: Share of a step that the ranks' exchange adds to it; at most 0 where it hides behind the
    #: backward pass.
    exchange_fraction: Estimate
    #: The rank that is surely slower alone than the others; None where none is.
    straggler: int | None = None
    #: By how much it is slower than the middle of all.
    straggler_fraction: Estimate | None = None
    #: By number of ranks; empty where one number was timed.
    points: tuple[RankPoint, ...] = ()


RANK_PROBES = Series("rank_probes", RankProbe)
