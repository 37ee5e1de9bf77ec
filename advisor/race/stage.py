"""The race: the user's own pair is trained, then what may be faster, and what is from new starts.

Pairs are picked from a few starts and judged from others. A pair takes about the base pair's time:
one that needs longer has lost. Each piece of work is a task of its own, so that the race goes on
wherever the run has time left.
"""

import contextlib
import math
import time
from collections.abc import Callable, Sequence

import msgspec

from advisor.engine.record import Slot
from advisor.engine.run import Run
from advisor.loader.stage import time_loop
from advisor.noise.plan import NOISE
from advisor.race.branches import LEAST_STEPS, Branches
from advisor.race.compare import compare_all, is_only_bound
from advisor.race.data import BasePair, PairKey, PairResult, Race
from advisor.race.law import choose_by_law, predict_log_ratio
from advisor.race.loop_time import LOOP_TIMES
from advisor.race.plan import (
    FRESH,
    LEAST_FRESH,
    RACE,
    STARTS,
    group_pairs,
    rank_by_regret,
)
from advisor.race.search import RATE_STEP, Place, choose_next
from advisor.race.ways import WAYS, find_way
from advisor.rate.curves import has_diverged
from advisor.rate.data import TRIALS, Candidate, TrialBranch, TrialTask
from advisor.rate.range_stage import run_ranged_rate
from advisor.rate.rules import plan_pair

#: Lengths of the base pair's branches, as shares of the longest: where each ends is a point of the
#: curve that other pairs' ends are compared with. From new starts the pick's time is known.
_LENGTHS, _FRESH_LENGTHS = (1.0, math.sqrt(0.5), 0.5), (1.0, math.sqrt(0.5))
#: Those of the pick from new starts, around where it should be as low as the base pair.
_PICK_LENGTHS = (1.15, 0.8)
#: Time of another pair's branch over that of the base pair's longest.
_LEAST_RATIO, _MOST_TIME_RATIO = 0.03, 1.0
#: And over the time of the best so far, the law's word among them: one that needs longer has lost.
_SHARE_OF_BEST = 2.5
#: Where a pair is there this many times sooner, it is trained again for this part of its time more:
#: a curve has as many points however long it is.
_EARLY, _NEAR = 3.0, 1.4
#: Time of all lengths that a pair is trained for over that of the first.
_LENGTHS_OF_A_PAIR = 1.5
#: Starts after which a pick stays undecided.
_MOST_FRESH = 24
#: Log of the time by which a pick must look faster than a winner to be judged as well; and the
#: error of the log from which on a winner's ratio is known well.
_WORTH_A_CHANGE, _KNOWN_WELL = math.log(0.9), 0.08
#: Log of the ratio from which on one start alone refuses a pair.
_BEATEN = math.log(1.3)
#: Counted for a pair that could not be compared: slower by far.
_BEHIND = math.log(2.0)
#: Share of the time left that a race begun late may plan with.
_LEAST_OF_LEFT = 0.5


class _BeatenError(Exception):
    """The first start shows that the pair has lost."""


def run_race(run: Run) -> None:
    """Train pairs for the race's share of the time; the recommendation says why where none can be.

    Without a base rate that a rule could scale, a range test comes first.
    """
    run_ranged_rate(run, lambda: _find_reference(run))
    deadline = time.monotonic() + run.share_s("trial")
    while not run.is_spent and continue_race(run, most_s=deadline - time.monotonic()):
        pass


def continue_race(run: Run, *, most_s: float | None = None) -> bool:
    """Train one pair more, within the time; return whether there was one to train."""
    racer = run.held(_RACER)
    if racer is None:
        racer = _open(run)
        if racer is None:
            return False
        run.hold(_RACER, racer)
    with run.noting_ends("trial"):
        return racer.advance(run.unspent_s if most_s is None else most_s)
    racer.is_over = True
    return False


def _find_reference(run: Run) -> Candidate | None:
    """Return the batch at which a rate is looked for where the user has none: the law's, or 32."""
    ways, noise, facts = run.of(WAYS), run.of(NOISE), run.facts
    if not ways:
        return None
    own = find_way(ways, run.spec.limits.global_batch_size) or find_way(ways, facts.base_batch_size)
    near = choose_by_law(ways, None if noise is None else noise.working, facts.dataset_size)
    usual = min(ways, key=lambda way: abs(math.log(way.global_batch_size / 32)))
    return own or next(iter(near), usual)


def _open(run: Run) -> "_Racer | None":
    """Return the race, None where there is nothing to train or no time for it."""
    race, ways = run.of(RACE), run.of(WAYS)
    if race is None or race.base is None or not ways:
        return None
    size = race.base.global_batch_size
    if find_way(ways, size) is None:
        run.progress.note(f"trial: batch {size} does not fit and cannot be split")
        return None
    racer = _Racer(run, race.base, ways)
    if racer.branches.are_too_short:
        run.progress.note(
            f"trial: no time left for {LEAST_STEPS} steps of each pair, "
            f"about {racer.branches.least_s:.0f} s"
        )
        return None
    return racer


class _Racer:
    """The pairs of one run: what was trained, what comes next, and how long it takes.

    Attributes:
        branches: What is trained.
        is_over: Nothing more is to be trained.
    """

    def __init__(self, run: Run, pair: BasePair, ways: Sequence[Candidate]) -> None:
        self._run, self._pair, self._ways = run, pair, ways
        noise = run.of(NOISE)
        self._noise = None if noise is None else noise.decisive
        self._scale = None if noise is None else noise.working
        self._given = run.spec.limits.global_batch_size
        time_s = max(run.share_s("trial"), _LEAST_OF_LEFT * run.unspent_s)
        self.branches = Branches(run, pair, ways, self._noise, time_s)
        self._base = self.branches.base
        self._places: dict[Place, float] = {Place(pair.global_batch_size, 0): pair.learning_rate}
        self._branch_s: dict[int, float] = {}  # as trained, evaluations included, by batch
        self._is_searched = False
        self.is_over = False

    def advance(self, most_s: float) -> bool:
        """Train what comes next; return whether anything did, or could be afforded."""
        run = self._run
        if self.is_over:
            return False
        if not self._branch_s:
            self._train_base(STARTS, _LENGTHS)
            return True
        race = run.of(RACE)
        if race is None or not race.does_base_train:
            return False
        if not self._is_searched:
            place = self._choose_next(race)
            reserve_s = self._predict_fresh_s()
            if place is not None and self._predict_pair_s(place, race) + reserve_s <= most_s:
                self._try_place(place, race)
                return True
            self._is_searched = place is None
        return self._confirm(race, most_s)

    def _choose_next(self, race: Race) -> Place | None:
        seen: dict[Place, float | None] = {}
        for place, rate in self._places.items():
            result = race.find(place.size, rate)
            is_base = (place.size, rate) == (self._pair.global_batch_size, self._pair.learning_rate)
            seen[place] = 0.0 if is_base else _rank(result)
        ways = self._ways
        if self._given is not None:
            ways = [way for way in ways if way.global_batch_size == self._given]
        return choose_next(ways, seen, self._predict, self._find_planned())

    def _find_planned(self) -> int:
        if self._given is not None:
            return self._given
        near = choose_by_law(self._ways, self._scale, self._run.facts.dataset_size)
        return next(iter(near), self._base).global_batch_size

    def _predict(self, way: Candidate) -> float:
        size = self._run.facts.dataset_size
        return predict_log_ratio(way, self._base, self._scale, dataset_size=size)

    def _find_rate(self, place: Place) -> float:
        proposed = plan_pair(self.branches.facts, place.size, self._noise)[0].proposed
        assert proposed is not None
        return float(proposed * RATE_STEP**place.step)

    def _try_place(self, place: Place, race: Race) -> None:
        """Train one pair from the starts that pick."""
        rate = self._find_rate(place)
        self._places[place] = rate
        own = self._list_base()
        share: float | None = self._choose_share(place, race)
        pair = (place.size, rate)

        def keep(branch: TrialBranch) -> None:
            self._run.add(TRIALS, branch)
            found = compare_all(own, {0: [branch]}, picking=(0,)).get(0)
            way = self.branches.find_way(place.size)
            slower = math.log(way.sample_s / self._base.sample_s)
            if has_diverged(branch) or (found and found.log_ratio + slower > _BEATEN):
                raise _BeatenError

        known = [pair.log_ratio for pair in race.pairs if pair.log_ratio is not None]
        lost = _SHARE_OF_BEST * math.exp(min(known)) if known else math.inf
        while share is not None and not self.is_over:
            self._train(self.branches.make_pair(*pair, (share,), STARTS), keep)
            share = self._choose_nearer(pair, share, lost)

    def _choose_nearer(self, pair: PairKey, share: float, lost: float) -> float | None:
        """Return a length that ends nearer to the base pair's loss; None where this one will do."""
        race = self._run.of(RACE)
        result = None if race is None else race.find(*pair)
        if self._is_only_bound(pair, STARTS):
            nearer = share / _SHARE_OF_BEST
        elif result is not None and result.standing == "too_short":
            nearer = min(1.0, lost, share * _SHARE_OF_BEST)
            return nearer if nearer > share else None
        elif result is not None and result.log_ratio is not None:
            nearer = _NEAR * math.exp(result.log_ratio)
        else:
            return None
        nearer = max(_LEAST_RATIO, nearer)
        return nearer if nearer * _EARLY < share * _NEAR else None

    def _confirm(self, race: Race, most_s: float) -> bool:
        """Train a pick and the base pair from new starts; return whether one was open."""
        pick = self._choose_open(race)
        if pick is None:
            return False
        seeds = tuple(FRESH[pick.fresh_starts + n] for n in range(LEAST_FRESH))
        needed_s = self._predict_fresh_s(pick)
        if needed_s > most_s:
            self._run.progress.note(
                f"trial: no time left to confirm batch {pick.global_batch_size} from new starts, "
                f"about {needed_s:.0f} s"
            )
            return False
        self._time_loop(pick)
        trained = {branch.seed for branch in self._list_base()}
        if not trained.issuperset(seeds):
            self._train_base(seeds, _FRESH_LENGTHS)
        time_ratio = math.exp(pick.log_ratio or 0.0)
        ratios = [
            min(max(length * time_ratio, _LEAST_RATIO), _MOST_TIME_RATIO)
            for length in _PICK_LENGTHS
        ]
        self._train_pick(pick, ratios, seeds)
        ratio = ratios[-1]
        pair = (pick.global_batch_size, pick.learning_rate)
        while self._is_only_bound(pair, seeds) and ratio > _LEAST_RATIO and not self.is_over:
            ratio /= 2.0
            self._train_pick(pick, [ratio], seeds)
        return True

    def _choose_open(self, race: Race) -> PairResult | None:
        """Return the best pick; beside a winner what looks faster still, then the winner itself.

        None once the winner's time is known well, or no pick is open.
        """
        ahead = [pair for pair in race.pairs if pair.standing == "ahead"]
        winner = race.winner
        if winner is not None:
            most = (winner.log_ratio or 0.0) + _WORTH_A_CHANGE
            ahead = [pair for pair in ahead if (pair.log_ratio or 0.0) < most]
            if not ahead and (winner.error or 0.0) > _KNOWN_WELL:
                ahead = [winner]
        if self._given is not None:
            ahead = [pair for pair in ahead if pair.global_batch_size == self._given]
        open_ones = [pair for pair in ahead if pair.fresh_starts < _MOST_FRESH]
        return next(iter(rank_by_regret(open_ones)), None)

    def _time_loop(self, pick: PairResult) -> None:
        """Time the pick's step in the user's loop beside the base pair's, where it was not yet."""
        times, own = self._run.of(LOOP_TIMES), self._base
        base = (own.micro_batch_size, own.gradient_accumulation_steps)
        split = (pick.micro_batch_size, pick.gradient_accumulation_steps)
        if times is not None and split != base and not times.is_timed(split, base):
            time_loop(self._run, (base[0], split[0]))

    def _train_pick(
        self, pick: PairResult, ratios: Sequence[float], seeds: tuple[int, ...]
    ) -> None:
        task = self.branches.make_pair(pick.global_batch_size, pick.learning_rate, ratios, seeds)
        self._train(
            msgspec.structs.replace(task, beta2=pick.beta2, weight_decay=pick.weight_decay),
            lambda branch: self._run.add(TRIALS, branch),
        )

    def _is_only_bound(self, pair: PairKey, seeds: tuple[int, ...]) -> bool:
        own = group_pairs(self._run.record.all(TRIALS)).get(pair, [])
        fresh = [[each for each in side if each.seed in seeds] for side in (own, self._list_base())]
        return is_only_bound(*fresh)

    def _list_base(self) -> list[TrialBranch]:
        groups = group_pairs(self._run.record.all(TRIALS))
        return groups.get((self._pair.global_batch_size, self._pair.learning_rate), [])

    def _train_base(self, seeds: tuple[int, ...], lengths: Sequence[float]) -> None:
        steps = [length * self.branches.base_steps for length in lengths]
        task = self.branches.make(self._base, self._pair.learning_rate, steps, seeds)
        self._train(task, lambda branch: self._run.add(TRIALS, branch))

    def _train(self, task: TrialTask, keep: Callable[[TrialBranch], None]) -> None:
        run, size, left_s = self._run, task.global_batch_size, self._run.left_s
        run.progress.stage(f"trial: batch {size}, rate {task.learning_rate:.3g}", left_s=left_s)
        started, before = time.monotonic(), len(run.record.all(TRIALS))
        with contextlib.suppress(_BeatenError):
            run.runner.run(task, timeout_s=left_s, on_result=keep)
        ran = len(run.record.all(TRIALS)) - before
        if ran:
            samples = sum(each.samples for each in run.record.all(TRIALS)[before:])
            share = samples / (self.branches.count_whole_steps(size) * size)
            self._branch_s[size] = (time.monotonic() - started) / share
        else:
            self.is_over = True  # it does not fit, or the time is up

    def _choose_share(self, place: Place, race: Race) -> float:
        """Return the time of a pair's branch over the base pair's: well beyond what it may take."""
        way = self.branches.find_way(place.size)
        known = [pair.log_ratio for pair in race.pairs if pair.log_ratio is not None]
        best = math.exp(min([0.0, self._predict(way), *known]))
        return min(1.0, max(_LEAST_RATIO, _SHARE_OF_BEST * best))

    def _predict_pair_s(self, place: Place, race: Race) -> float:
        share = _LENGTHS_OF_A_PAIR * self._choose_share(place, race)
        return len(STARTS) * share * self._predict_s(place.size)

    def _predict_fresh_s(self, pick: PairResult | None = None) -> float:
        """Return the time of a confirmation, of any pair where none is picked yet."""
        own_s = sum(_FRESH_LENGTHS) * self._predict_s(self._pair.global_batch_size)
        if pick is None:
            return LEAST_FRESH * 2.0 * own_s
        time_ratio = min(math.exp(pick.log_ratio or 0.0), _MOST_TIME_RATIO)
        pick_s = sum(_PICK_LENGTHS) * time_ratio * self._predict_s(pick.global_batch_size)
        return LEAST_FRESH * (own_s + pick_s)

    def _predict_s(self, size: int) -> float:
        """Return the seconds of a branch as long as the base pair's, by the nearest trained."""
        near = min(self._branch_s, key=lambda other: abs(math.log(other / size)))
        return self._branch_s[near]


def _rank(result: PairResult | None) -> float | None:
    """Return what orders a pair, with either end of its branches; None where it failed."""
    if result is None or result.standing == "failed":
        return None
    if result.log_ratio is None:
        return _BEHIND
    return max(result.log_ratio, math.log(result.end_time_ratio or math.exp(result.log_ratio)))


_RACER = Slot("racer", _Racer)
