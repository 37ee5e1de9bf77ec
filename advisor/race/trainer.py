"""Trains the branches of one race: its base pair and others, with the time that each takes."""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Sequence

from advisor.engine.run import Run
from advisor.race.branches import BRANCHES, Branches
from advisor.race.compare import is_only_bound
from advisor.race.data import UNTRAINED, BasePair
from advisor.rate.curves import is_same
from advisor.rate.data import TRIALS, Candidate, PairKey, TrialBranch, TrialTask
from advisor.rate.range_stage import run_starts

#: Share of the time left that a race begun late may plan with.
_LEAST_OF_LEFT = 0.5


class BeatenError(Exception):
    """The first start shows that the pair has lost."""


class Trainer:
    """The branches of one run's race.

    Attributes:
        run: Keeps what was trained.
        pair: The base pair.
        ways: The batches that may be tried.
        branches: Makes the tasks.
        is_over: Nothing more is to be trained.
    """

    def __init__(self, run: Run, pair: BasePair, ways: Sequence[Candidate]) -> None:
        self.run, self.pair, self.ways = run, pair, ways
        time_s = max(run.share_s("trial"), _LEAST_OF_LEFT * run.unspent_s)
        self.branches = Branches(run, pair, ways, time_s)
        if self.branches.are_too_short:  # a short race tells more than what comes after it
            self.branches = Branches(run, pair, ways, run.unspent_s)
        # By batch, as trained: of a branch as long as the base pair's, beside its start.
        self._branch_s: dict[int, float] = {}
        self._start_s = self.branches.start_s
        self._extended_s = 0.0
        self.is_over = False

    @property
    def has_begun(self) -> bool:
        """Whether anything was trained."""
        return bool(self._branch_s)

    def list_base(self) -> list[TrialBranch]:
        """Return the branches of the base pair."""
        return self.list_pair(self.pair.key)

    def list_pair(self, pair: PairKey) -> list[TrialBranch]:
        """Return the branches of a pair."""
        return [each for each in self.run.record.all(TRIALS) if is_same(each.key, pair)]

    def is_only_bound(self, pair: PairKey, seeds: Sequence[int]) -> bool:
        """Return whether a pair's ends from these starts say only that it was as low sooner."""
        sides = (self.list_pair(pair), self.list_base())
        return is_only_bound(*([each for each in side if each.seed in seeds] for side in sides))

    def train_base(self, seeds: tuple[int, ...], lengths: Sequence[float]) -> None:
        """Train the base pair for these shares of its longest branch."""
        steps = [length * self.branches.base_steps for length in lengths]
        self.train(self.branches.make(self.branches.base, self.pair.learning_rate, steps, seeds))

    def train(self, task: TrialTask, watch: Callable[[TrialBranch], None] | None = None) -> None:
        """Train and keep branches; `watch` may end that by a BeatenError."""
        run, size, left_s = self.run, task.global_batch_size, self.run.left_s
        run.progress.stage(f"trial: batch {size}, rate {task.learning_rate:.3g}", left_s=left_s)
        started, before = time.monotonic(), len(run.record.all(TRIALS))
        with contextlib.suppress(BeatenError):
            run_starts(run, task, TRIALS, watch)
        trained = run.record.all(TRIALS)[before:]
        if trained:
            samples = sum(each.samples for each in trained)
            share = samples / (self.branches.count_whole_steps(size) * size)
            trained_s = time.monotonic() - started - len(trained) * self._start_s
            self._branch_s[size] = max(0.0, trained_s) / share
        else:
            self.is_over = True
            self.say_untrained(f"batch {size} ran out of memory when it was trained")

    def affords(self, needed_s: float, most_s: float, *, is_close: bool) -> bool:
        """Return whether there is time for a piece of work; what is close may take more."""
        more_s = needed_s - most_s
        if more_s <= 0.0:
            return True
        if not is_close or not self.run.take_more("trial", more_s, taken_s=self._extended_s):
            return False
        self._extended_s += more_s
        return True

    def say_untrained(self, why: str) -> None:
        """Keep why the base pair has no branch, where it has none."""
        if not self.list_base():
            if self.run.record.get(UNTRAINED) != why:
                self.run.progress.note(f"trial: {why}")
            self.run.set(UNTRAINED, why)

    def predict_race_s(self) -> float:
        """Return the seconds of a whole race: half its branches the base pair's, half the law's."""
        if not self.has_begun:
            return 0.0
        sizes = [way.global_batch_size for way in self.branches.law.choose(self.ways)]
        own = self.pair.global_batch_size
        others = [self.predict_s(each, (1.0,)) for each in sizes or [own]]
        return BRANCHES * (self.predict_s(own, (1.0,)) + statistics.fmean(others)) / 2.0

    def predict_s(self, size: int, lengths: Sequence[float]) -> float:
        """Return the seconds of branches of such shares of the base pair's, by the nearest size."""
        near = min(self._branch_s, key=lambda other: abs(math.log(other / size)))
        branch_s = self._branch_s[near] * self.branches.weigh(size) / self.branches.weigh(near)
        return len(lengths) * self._start_s + sum(lengths) * branch_s
