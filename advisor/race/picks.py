"""Which pairs may be faster, trained from a few starts; and whether a pick is, from new ones.

A pair is trained for somewhat more than the time of the best so far: one that needs longer has
lost, and one that is as low far sooner is trained again for less. A pick is judged beside the base
pair from starts that chose nothing.
"""

import math
from itertools import islice

from msgspec.structs import replace

from advisor.loader.question import choose_loop_s, time_loop
from advisor.race.compare import compare_all
from advisor.race.data import PairResult, Race
from advisor.race.loop_time import LOOP_TIMES
from advisor.race.plan import FRESH, LEAST_FRESH, RACE, STARTS, choose_best
from advisor.race.search import RATE_STEP, Place, choose_next
from advisor.race.trainer import BeatenError, Trainer
from advisor.rate.curves import has_diverged
from advisor.rate.data import Candidate, PairKey, TrialBranch
from advisor.rate.rules import propose_learning_rate
from advisor.throughput.stage import time_sizes

#: Time of a pair's branch over the base pair's, at the least.
LEAST_RATIO = 0.03
#: And over the time of the best so far, the law's word among them: one that needs longer has lost.
_SHARE_OF_BEST = 2.5
#: Where a pair is there this many times sooner, it is trained again for this part of its time more:
#: a curve has as many points however long it is.
_EARLY, _NEAR = 3.0, 1.4
#: Time of all lengths that a pair is trained for over that of the first.
_LENGTHS_OF_A_PAIR = 1.5
#: Log of the ratio from which on one start alone refuses a pair.
_BEATEN = math.log(1.3)
#: Places within which the best was found where the search still climbs.
_LAST_TRIED = 3
#: Counted for a pair that could not be compared: slower by far.
_BEHIND = math.log(2.0)

#: Lengths of the base pair's branches, as shares of the longest: the pick's time is known.
_BASE_LENGTHS = (1.0, math.sqrt(0.5))
#: Those of the pick, around where it should be as low as the base pair.
_PICK_LENGTHS = (1.15, 0.8)
#: Time of a pick's branch over that of the base pair's longest, at most.
_MOST_TIME_RATIO = 1.0
#: To time a script's step takes about so long beside its start, in seconds.
_BLOCK_S = 1.0
#: Starts after which a pick stays undecided.
_MOST_FRESH = 24
#: Log of the time by which a pick must look faster than a winner to be judged as well; the error of
#: the log up to which a winner's ratio is known well; and that from which on it is worth more time.
_WORTH_A_CHANGE, _KNOWN_WELL, _KNOWN_BADLY = math.log(0.9), 0.09, 0.2


class Picks:
    """The places in batch and rate that were tried, and those to come."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, pair = trainer, trainer.pair
        self._places: dict[Place, float] = {Place(pair.global_batch_size, 0): pair.learning_rate}
        #: Whether the best so far is among the last tried: what comes next may be far better.
        self.climbs = True
        self.are_all_tried = False

    def choose_next(self, race: Race) -> Place | None:
        """Return the place to try next; None where no neighbour of the best can win."""
        trainer = self.trainer
        own, given = trainer.pair.key, trainer.run.spec.limits.global_batch_size
        pairs = {place: (place.size, rate) for place, rate in self._places.items()}
        seen = {
            place: 0.0 if pair == own else _rank(race.find(pair)) for place, pair in pairs.items()
        }
        known = {place: ratio for place, ratio in seen.items() if ratio is not None}
        self.climbs = min(known, key=known.__getitem__) in [*seen][-_LAST_TRIED:]
        ways = [way for way in trainer.ways if given in {None, way.global_batch_size}]
        near = next(iter(trainer.law.choose(trainer.ways)), trainer.base)
        return choose_next(ways, seen, self._predict, given or near.global_batch_size)

    def _predict(self, way: Candidate) -> float:
        return self.trainer.law.predict_log_ratio(way, self.trainer.base)

    def try_place(self, place: Place, race: Race) -> None:
        """Train one pair from the starts that pick."""
        trainer = self.trainer
        rule = propose_learning_rate(trainer.facts, place.size, trainer.law.noise)
        assert rule.proposed is not None
        rate = float(rule.proposed * RATE_STEP**place.step)
        self._places[place] = rate
        own = trainer.list_pair(trainer.pair.key)
        slower = math.log(trainer.find_way(place.size).sample_s / trainer.base.sample_s)

        def watch(branch: TrialBranch) -> None:
            found = compare_all(own, {0: [branch]}, picking=(0,)).get(0)
            if has_diverged(branch) or (found and found.log_ratio + slower > _BEATEN):
                raise BeatenError

        known = _list_ratios(race)
        lost = _SHARE_OF_BEST * math.exp(min(known)) if known else math.inf
        share: float | None = self._choose_share(place, race)
        while share is not None and not trainer.is_over:
            trainer.train(trainer.make(place.size, rate, (share,), STARTS), watch)
            share = self._choose_nearer((place.size, rate), share, lost)

    def _choose_nearer(self, pair: PairKey, share: float, lost: float) -> float | None:
        """Return a length that ends nearer to the base pair's loss; None where this one will do."""
        race = self.trainer.run.of(RACE)
        result = None if race is None else race.find(pair)
        if self.trainer.is_only_bound(pair, STARTS):
            nearer = share / _SHARE_OF_BEST
        elif result is not None and result.standing == "too_short":
            nearer = min(1.0, lost, share * _SHARE_OF_BEST)
            return nearer if nearer > share else None
        elif result is not None and result.log_ratio is not None:
            nearer = _NEAR * math.exp(result.log_ratio)
        else:
            return None
        nearer = max(LEAST_RATIO, nearer)
        return nearer if nearer * _EARLY < share * _NEAR else None

    def _choose_share(self, place: Place, race: Race) -> float:
        """Return the time of a pair's branch over the base pair's: well beyond what it may take."""
        law = self._predict(self.trainer.find_way(place.size))
        best = math.exp(min([0.0, law, *_list_ratios(race)]))
        return min(1.0, max(LEAST_RATIO, _SHARE_OF_BEST * best))

    def predict_s(self, place: Place, race: Race) -> float:
        """Return the seconds that trying a place takes."""
        share = _LENGTHS_OF_A_PAIR * self._choose_share(place, race)
        return len(STARTS) * self.trainer.predict_s(place.size, (share,))


def _list_ratios(race: Race) -> list[float]:
    return [pair.log_ratio for pair in race.pairs if pair.log_ratio is not None]


def _rank(result: PairResult | None) -> float | None:
    """Return what orders a pair, with either end of its branches; None where it failed."""
    if result is None or result.standing == "failed":
        return None
    if result.log_ratio is None:
        return _BEHIND
    return max(result.log_ratio, math.log(result.end_time_ratio or math.exp(result.log_ratio)))


def judge_next(trainer: Trainer, race: Race, most_s: float) -> bool:
    """Train a pick and the base pair from new starts; return whether one was open."""
    run, winner, pick = trainer.run, race.winner, _choose_open(trainer, race)
    if pick is None:
        return False
    trained = {branch.seed for branch in trainer.list_pair(pick.key)}
    seeds = tuple(islice((seed for seed in FRESH if seed not in trained), LEAST_FRESH))
    times, base = run.of(LOOP_TIMES), trainer.base
    is_known = times is None or pick.split == base.split or times.is_known(pick.split, base.split)
    needed_s = predict_s(trainer, pick)
    if not is_known and run.facts.script is None:
        needed_s += run.start_s + choose_loop_s(run)
    elif not is_known:
        needed_s += 2.0 * (run.start_s + _BLOCK_S)
    is_close = winner is None or (winner.error or 0.0) > _KNOWN_BADLY
    if not trainer.affords(needed_s, most_s, is_close=is_close):
        starts = "more new starts" if pick.fresh_starts else "new starts"
        run.progress.note(
            f"trial: no time left to train batch {pick.global_batch_size} from {starts}, "
            f"about {needed_s:.0f} s"
        )
        return False
    if not is_known:  # what is timed of a script is its loop
        time_steps = time_loop if run.facts.script is None else time_sizes
        time_steps(run, (base.micro_batch_size, pick.micro_batch_size))
    trained = {branch.seed for branch in trainer.list_pair(trainer.pair.key)}
    missing = tuple(seed for seed in seeds if seed not in trained)
    if missing:
        trainer.train_base(missing, _BASE_LENGTHS)
    _train_pick(trainer, pick, seeds)
    return True


def _train_pick(trainer: Trainer, pick: PairResult, seeds: tuple[int, ...]) -> None:
    """Train it as long as should make it as low as the base pair, then less while it is lower."""
    lengths = [math.exp(pick.log_ratio or 0.0) * length for length in _PICK_LENGTHS]
    ratios = [min(max(length, LEAST_RATIO), _MOST_TIME_RATIO) for length in lengths]
    while True:
        task = trainer.make(*pick.key, ratios, seeds)
        trainer.train(replace(task, beta2=pick.beta2, weight_decay=pick.weight_decay))
        is_shortest = ratios[-1] <= LEAST_RATIO
        if is_shortest or trainer.is_over or not trainer.is_only_bound(pick.key, seeds):
            return
        ratios = [ratios[-1] / 2.0]


def _choose_open(trainer: Trainer, race: Race) -> PairResult | None:
    """Return the best pick; beside a winner what looks faster still, then the winner itself.

    None once the winner's time is known well, or no pick is open.
    """
    ahead, winner = [pair for pair in race.pairs if pair.standing == "ahead"], race.winner
    if winner is not None:
        most = (winner.log_ratio or 0.0) + _WORTH_A_CHANGE
        ahead = [pair for pair in ahead if (pair.log_ratio or 0.0) < most]
        if not ahead and (winner.error or 0.0) > _KNOWN_WELL:
            ahead = [winner]
    open_ones = [pair for pair in ahead if pair.fresh_starts < _MOST_FRESH]
    return choose_best(open_ones, trainer.run.spec.limits.global_batch_size)


def predict_s(trainer: Trainer, pick: PairResult | None = None) -> float:
    """Return the time of a confirmation, of any pair where none is picked yet."""
    own_s = trainer.predict_s(trainer.pair.global_batch_size, _BASE_LENGTHS)
    if pick is None:
        return LEAST_FRESH * 2.0 * own_s
    time_ratio = min(math.exp(pick.log_ratio or 0.0), _MOST_TIME_RATIO)
    lengths = [length * time_ratio for length in _PICK_LENGTHS]
    return LEAST_FRESH * (own_s + trainer.predict_s(pick.global_batch_size, lengths))
