"""Which pair to advise: the race's winner, else the user's own; and what limits its batch.

a pair that is surely faster, from fresh starts    -> that pair
a batch that the user gave                         -> it, at its best rate
no pair of the user's own                          -> the range test's
else                                               -> the user's own: nothing was surely faster
"""

from typing import NamedTuple

from advisor.advice.data import Basis, Interval, LimitingFactor
from advisor.engine.record import Conclusions
from advisor.memory.data import MemoryConclusion
from advisor.memory.plan import MEMORY
from advisor.noise.data import NEAR_OPTIMUM_FRACTION
from advisor.predict.data import LimitedBy
from advisor.race.data import PairResult, Race
from advisor.race.law import Law, read_law
from advisor.race.plan import RACE, choose_best
from advisor.race.ways import WAYS, find_way
from advisor.rate.data import Candidate
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import ThroughputConclusion
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
    "script": "script",
    "cap": "user",
    "model": "model",
    "budget": "time",
}


class Decision(NamedTuple):
    """The pair to advise, and all that it was weighed against."""

    facts: WorkloadFacts
    memory: MemoryConclusion
    throughput: ThroughputConclusion
    race: Race
    law: Law
    ways: tuple[Candidate, ...]
    way: Candidate
    basis: Basis
    #: None where no rate that was run can be advised.
    learning_rate: float | None
    #: What training showed of it; None for the base pair, and where it was not trained.
    result: PairResult | None

    @property
    def next_larger(self) -> Candidate | None:
        """The next larger batch, which the limit is about."""
        least = _NEXT_RATIO * self.way.global_batch_size
        return next((each for each in self.ways if each.global_batch_size >= least), None)

    @property
    def is_timed_to_the_end(self) -> bool:
        """Whether the largest size that fits was timed, so that nothing larger was left out."""
        timed = max(each.micro_batch_size for each in self.ways)
        return timed >= _TIMED_FRACTION * (self.memory.max_micro_batch_size or 0)

    @property
    def limiting_factor(self) -> LimitingFactor:
        """The one effect that keeps the batch from being larger."""
        way, larger = self.way, self.next_larger
        if self.basis == "given":
            return "user"
        if larger is not None:
            is_faster = larger.sample_s < (1.0 - NEAR_OPTIMUM_FRACTION) * way.sample_s
            return "noise" if is_faster else "throughput"
        # Whether a far smaller batch is about as fast for each sample.
        is_flat = any(
            each.global_batch_size * _FLAT_RATIO <= way.global_batch_size
            and each.sample_s <= (1.0 + NEAR_OPTIMUM_FRACTION) * way.sample_s
            for each in self.ways
        )
        if is_flat:
            return "throughput"
        return _FACTORS[self.memory.limited_by] if self.is_timed_to_the_end else "time"

    @property
    def interval(self) -> Interval:
        """The batches whose best pair came within 5 % of the advised one's time."""
        race, result = self.race, self.result
        own = result.time_ratio.point if result is not None and result.time_ratio else None
        most = (own or 1.0) * (1.0 + NEAR_OPTIMUM_FRACTION)
        near = {self.way.global_batch_size}
        if race.base is not None and race.does_base_train and most >= 1.0:
            near.add(race.base.global_batch_size)
        near |= {
            pair.global_batch_size
            for pair in race.pairs
            if pair.time_ratio is not None and (pair.time_ratio.point or most + 1.0) <= most
        }
        return Interval(low=min(near), high=max(near))


def decide(conclusions: Conclusions) -> Decision | None:
    """Return the pair to advise; None where neither the user's own batch nor another was measured.

    A given batch is kept to.
    """
    facts, memory = conclusions.record.workload, conclusions.of(MEMORY)
    throughput, race = conclusions.of(THROUGHPUT), conclusions.of(RACE)
    if facts is None or memory is None or throughput is None or race is None:
        return None
    given = conclusions.record.command.limits.global_batch_size
    size, basis, rate, result = _choose(facts, race, given)
    law, ways = read_law(conclusions), conclusions.of(WAYS) or ()
    way = find_way(ways, size)
    if way is None:
        return None
    return Decision(facts, memory, throughput, race, law, ways, way, basis, rate, result)


def _choose(
    facts: WorkloadFacts, race: Race, given: int | None
) -> tuple[int | None, Basis, float | None, PairResult | None]:
    """Return batch, why, rate and what was seen of it."""
    optimizer, base, winner = facts.optimizer, race.base, race.winner
    if given is not None and base is not None and base.global_batch_size == given and not winner:
        return given, "given", None if race.does_base_train is False else base.learning_rate, None
    if given is not None:
        best = choose_best(race.pairs, given)
        return given, "given", None if best is None else best.learning_rate, best
    if winner is not None:
        return winner.global_batch_size, "winner", winner.learning_rate, winner
    if base is not None and not base.is_own:
        return base.global_batch_size, "ranged", base.learning_rate, None
    rate = None if optimizer is None or optimizer.is_default else optimizer.learning_rate
    if race.does_base_train is False or not rate:
        rate = None  # A rate of 0 is given to a schedule to set, and trains nothing.
    return facts.base_batch_size, "untried" if race.does_base_train is None else "stay", rate, None
