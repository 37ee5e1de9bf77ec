"""Which pair to advise: the race's winner, else the user's own; and what limits its batch.

a pair that is surely faster, from fresh starts    -> that pair
a batch that the user gave                         -> it, at its best rate
no pair of the user's own                          -> the range test's
else                                               -> the user's own: nothing was surely faster
"""

from collections.abc import Sequence

import msgspec

from advisor.advice.data import Basis, Interval, LimitingFactor
from advisor.memory.data import MemoryConclusion
from advisor.noise.data import NEAR_OPTIMUM_FRACTION
from advisor.predict.data import LimitedBy
from advisor.race.data import PairResult, Race
from advisor.race.plan import choose_best
from advisor.race.ways import find_way
from advisor.rate.data import Candidate
from advisor.training.data import WorkloadFacts

#: Share of the largest size that fits above which the largest one timed counts as that size.
_TIMED_FRACTION = 0.9
#: A batch at least this much larger is the next one to compare speeds with.
_NEXT_RATIO = 1.4
#: Speed no longer rises where a batch this much smaller is about as fast.
_FLAT_RATIO = 4

_FACTORS: dict[LimitedBy, LimitingFactor] = {
    "memory": "memory",
    "kernel": "kernel",
    "dataset": "dataset",
    "cap": "user",
    "model": "model",
    "budget": "time",
}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The pair to advise and what it was weighed against."""

    basis: Basis
    way: Candidate
    #: None where no rate that was run can be advised.
    learning_rate: float | None
    #: What training showed of it; None for the base pair, and where it was not trained.
    result: PairResult | None
    race: Race
    #: Batches that trained about as fast.
    interval: Interval
    limiting_factor: LimitingFactor
    #: The next larger batch, which the limit is about; None where there is none.
    next_larger: Candidate | None
    #: Whether the largest size that fits was timed, so that nothing larger was left out.
    is_timed_to_the_end: bool


def decide(
    facts: WorkloadFacts,
    memory: MemoryConclusion,
    ways: Sequence[Candidate],
    race: Race,
    *,
    global_batch_size: int | None = None,
) -> Decision | None:
    """Return the pair to advise; None where neither the user's own batch nor another was measured.

    A given batch is kept to.
    """
    size, basis, rate, result = _choose(facts, race, global_batch_size)
    way = find_way(ways, size)
    if way is None:
        return None
    larger = (
        each for each in ways if each.global_batch_size >= _NEXT_RATIO * way.global_batch_size
    )
    next_larger = next(larger, None)
    timed = max(each.micro_batch_size for each in ways)
    is_timed_to_the_end = timed >= _TIMED_FRACTION * (memory.max_micro_batch_size or 0)
    # Whether a far smaller batch is about as fast for each sample.
    is_flat = any(
        each.global_batch_size * _FLAT_RATIO <= way.global_batch_size
        and each.sample_s <= (1.0 + NEAR_OPTIMUM_FRACTION) * way.sample_s
        for each in ways
    )
    limit: LimitingFactor = "noise"
    if basis == "given":
        limit = "user"
    elif next_larger is None and is_flat:
        limit = "throughput"
    elif next_larger is None:
        limit = _FACTORS[memory.limited_by] if is_timed_to_the_end else "time"
    elif next_larger.sample_s >= (1.0 - NEAR_OPTIMUM_FRACTION) * way.sample_s:
        limit = "throughput"
    return Decision(
        basis=basis,
        way=way,
        learning_rate=rate,
        result=result,
        race=race,
        interval=_find_interval(way.global_batch_size, result, race),
        limiting_factor=limit,
        next_larger=next_larger,
        is_timed_to_the_end=is_timed_to_the_end,
    )


def _choose(
    facts: WorkloadFacts, race: Race, global_batch_size: int | None
) -> tuple[int | None, Basis, float | None, PairResult | None]:
    """Return batch, why, rate and what was seen of it."""
    optimizer, base = facts.optimizer, race.base
    own_rate = None if optimizer is None or optimizer.is_default else optimizer.learning_rate
    if race.does_base_train is False or not own_rate:
        own_rate = None  # A rate of 0 is given to a schedule to set, and trains nothing.
    if global_batch_size is not None:
        if base is not None and base.global_batch_size == global_batch_size and not race.winner:
            own_rate = base.learning_rate if race.does_base_train is not False else None
            return global_batch_size, "given", own_rate, None
        best = choose_best(race.pairs, global_batch_size)
        rate = None if best is None else best.learning_rate
        return global_batch_size, "given", rate, best
    if race.winner is not None:
        return race.winner.global_batch_size, "winner", race.winner.learning_rate, race.winner
    if base is not None and not base.is_own:
        return base.global_batch_size, "ranged", base.learning_rate, None
    basis: Basis = "untried" if race.does_base_train is None else "stay"
    return facts.base_batch_size, basis, own_rate, None


def _find_interval(size: int, result: PairResult | None, race: Race) -> Interval:
    """Return the batches whose best pair came within 5 % of the advised one's time."""
    own = 1.0
    if result is not None and result.time_ratio is not None and result.time_ratio.point:
        own = result.time_ratio.point
    most = own * (1.0 + NEAR_OPTIMUM_FRACTION)
    near = {size}
    if race.base is not None and race.does_base_train and most >= 1.0:
        near.add(race.base.global_batch_size)
    near |= {
        pair.global_batch_size
        for pair in race.pairs
        if pair.time_ratio is not None and (pair.time_ratio.point or most + 1.0) <= most
    }
    return Interval(low=min(near), high=max(near))
