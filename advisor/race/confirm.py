"""Whether a pick is faster: it and the base pair, trained from new starts that chose nothing."""

import math
from collections.abc import Sequence
from itertools import islice

from msgspec.structs import replace

from advisor.loader.stage import choose_loop_s, time_loop
from advisor.race.data import PairResult, Race
from advisor.race.loop_time import LOOP_TIMES
from advisor.race.picks import LEAST_RATIO
from advisor.race.plan import FRESH, LEAST_FRESH, choose_best
from advisor.race.trainer import Trainer
from advisor.throughput.stage import time_sizes

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


class Confirmation:
    """The judging of picks, three starts at a time."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer, self._branches = trainer, trainer.branches
        self._given = trainer.run.spec.limits.global_batch_size

    def judge_next(self, race: Race, most_s: float) -> bool:
        """Train a pick and the base pair from new starts; return whether one was open."""
        pick = self._choose_open(race)
        if pick is None:
            return False
        trained = {branch.seed for branch in self._trainer.list_pair(pick.key)}
        seeds = tuple(islice((seed for seed in FRESH if seed not in trained), LEAST_FRESH))
        loop_s = 0.0 if self._is_loop_known(pick) else self._predict_loop_s()
        needed_s = self.predict_s(pick) + loop_s
        is_close = race.winner is None or (race.winner.error or 0.0) > _KNOWN_BADLY
        if not self._trainer.affords(needed_s, most_s, is_close=is_close):
            self._trainer.run.progress.note(
                f"trial: no time left to confirm batch {pick.global_batch_size} from new starts, "
                f"about {needed_s:.0f} s"
            )
            return False
        if not self._is_loop_known(pick):
            self._time_loop(pick)
        trained = {branch.seed for branch in self._trainer.list_base()}
        missing = tuple(seed for seed in seeds if seed not in trained)
        if missing:
            self._trainer.train_base(missing, _BASE_LENGTHS)
        lengths = [math.exp(pick.log_ratio or 0.0) * length for length in _PICK_LENGTHS]
        ratios = [min(max(length, LEAST_RATIO), _MOST_TIME_RATIO) for length in lengths]
        self._train_pick(pick, ratios, seeds)
        ratio = ratios[-1]
        while ratio > LEAST_RATIO and self._trainer.is_only_bound(pick.key, seeds):
            if self._trainer.is_over:
                break
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
        open_ones = [pair for pair in ahead if pair.fresh_starts < _MOST_FRESH]
        return choose_best(open_ones, self._given)

    def _time_loop(self, pick: PairResult) -> None:
        """Time the pick's step in the user's loop beside the base pair's."""
        sizes = (self._branches.base.micro_batch_size, pick.micro_batch_size)
        run = self._trainer.run
        if run.facts.script is None:
            time_loop(run, sizes)
        else:  # what is timed of a script is its loop
            time_sizes(run, sizes)

    def _predict_loop_s(self) -> float:
        run = self._trainer.run
        if run.facts.script is None:
            return run.start_s + choose_loop_s(run)
        return 2.0 * (run.start_s + _BLOCK_S)

    def _is_loop_known(self, pick: PairResult) -> bool:
        times, base = self._trainer.run.of(LOOP_TIMES), self._branches.base.split
        return times is None or pick.split == base or times.is_known(pick.split, base)

    def _train_pick(
        self, pick: PairResult, ratios: Sequence[float], seeds: tuple[int, ...]
    ) -> None:
        task = self._branches.make_pair(pick.global_batch_size, pick.learning_rate, ratios, seeds)
        self._trainer.train(replace(task, beta2=pick.beta2, weight_decay=pick.weight_decay))

    def predict_s(self, pick: PairResult | None = None) -> float:
        """Return the time of a confirmation, of any pair where none is picked yet."""
        own_s = self._trainer.predict_s(self._trainer.pair.global_batch_size, _BASE_LENGTHS)
        if pick is None:
            return LEAST_FRESH * 2.0 * own_s
        time_ratio = min(math.exp(pick.log_ratio or 0.0), _MOST_TIME_RATIO)
        lengths = [length * time_ratio for length in _PICK_LENGTHS]
        pick_s = self._trainer.predict_s(pick.global_batch_size, lengths)
        return LEAST_FRESH * (own_s + pick_s)
