"""Trains the branches of one race: they differ in batch, rate and length, and in nothing else."""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from advisor.engine.budget import EVALUATION_OF_TRIAL
from advisor.engine.run import Run
from advisor.errors import WorkloadError
from advisor.race.compare import is_only_bound
from advisor.race.data import UNTRAINED, BasePair
from advisor.race.law import read_law
from advisor.race.loop_time import LOOP_TIMES
from advisor.race.plan import anchor
from advisor.race.ways import find_way
from advisor.rate.curves import is_same
from advisor.rate.data import TRIAL_EVALUATIONS, TRIALS, Candidate, PairKey, TrialBranch, TrialTask
from advisor.rate.range_stage import choose_evaluation_batch, make_trial, run_starts
from advisor.rate.rules import propose_optimizer_changes
from advisor.training.data import WARMUP_FRACTION

#: Optimizer steps of the base pair where the user names no length, and the least worth judging.
STEPS, LEAST_STEPS = 400, 30
#: Passes over the dataset in these steps at most: beyond, few trainings of this length go.
_MOST_EPOCHS = 50.0
#: Steps that are wanted even where they leave time for a few pairs only.
_WANTED_STEPS = 100
#: Branches of the base pair's length that a race takes: its own, of several lengths and starts,
#: eight pairs, and the winner from new starts; and one pick alone in place of the eight.
BRANCHES, _LEAST_BRANCHES = 34, 22
#: Branches that a worker trains in its turn, unless it is one run of a script.
_BRANCHES_OF_A_WORKER = 4
#: Time of a trial step over a timed one with its data, before one was trained.
_OVERHEAD = 1.3
#: Share of a branch over which the rate falls to 0 where the user's own schedule is not known.
DECAY_FRACTION = 0.3
#: Fewest steps of any branch: fewer show no curve.
_LEAST_BRANCH_STEPS = 8
#: Samples of an evaluation: the least of them, what comes before more than the least evaluations,
#: which still draw a curve, and the most. That few samples are other than the rest is an error of
#: all starts alike, which none of them shows.
_EVALUATION_SAMPLES, _LEAST_EVALUATIONS = (64, 256, 512), 10
#: Time of a forward pass over that of a step.
_FORWARD_FRACTION = 1.0 / 3.0


class BeatenError(Exception):
    """The first start shows that the pair has lost."""


class Trainer:
    """Makes and trains the branches of one race, which may take `time_s`.

    Attributes:
        pair: The base pair, which is made as `base` says.
        ways: The batches that may be tried.
        law: Of the batches before they are trained.
        facts: With the base pair as the one that rules scale from.
        wanted_steps: Of the base pair's longest branch; and `base_steps`, what the time allows.
        is_over: Nothing more is to be trained.
    """

    def __init__(self, run: Run, pair: BasePair, ways: Sequence[Candidate], time_s: float) -> None:
        times, script = run.of(LOOP_TIMES), run.facts.script
        assert times is not None
        self.run, self.pair, self.ways, self._times = run, pair, ways, times
        self.law, self.facts = read_law(run.conclusions), anchor(run.facts, pair)
        self.base = self.find_way(pair.global_batch_size)
        self._trial_step_s = _OVERHEAD * times.estimate_alone_s(*self.base.split)
        # Each branch of a script is a start of its own, while a process has many of a model file.
        self._start_s = 0.0 if script is None else run.start_s
        self._planned_start_s = self._start_s or run.start_s / _BRANCHES_OF_A_WORKER
        limits, size = run.spec.limits, run.facts.dataset_size
        most = STEPS if size is None else round(_MOST_EPOCHS * size / pair.global_batch_size)
        asked = limits.train_steps or limits.noise_steps
        self.wanted_steps = asked or min(STEPS, max(most, _WANTED_STEPS))
        follows = script is None or script.script.stretches_schedule
        if not (run.facts.has_scheduler and follows):  # the rate falls beyond what is compared
            self.wanted_steps = math.ceil(self.wanted_steps / (1.0 - DECAY_FRACTION))
        many, few = (
            int(max(0.0, time_s / count - self._planned_start_s) / self._trial_step_s)
            for count in (BRANCHES, _LEAST_BRANCHES)
        )
        self.base_steps = min(self.wanted_steps, max(many, min(few, _WANTED_STEPS)))
        self._evaluations, self._evaluation_samples = self._plan_evaluations(time_s)
        # By batch, as trained: of a branch as long as the base pair's, beside its start.
        self._branch_s: dict[int, float] = {}
        # By batch: the steps after which the script ends.
        self._lasts_steps: dict[int, int] = {}
        self._extended_s = 0.0
        self.is_over = False

    def _plan_evaluations(self, time_s: float) -> tuple[int, int]:
        """Return the evaluations of a branch and the samples of each, the same for all branches.

        A worker loads the samples once. Those of a script are means over training's own batches and
        cost nothing.
        """
        size = choose_evaluation_batch(self.run, self.ways[-1].micro_batch_size)
        share_s = EVALUATION_OF_TRIAL * time_s / BRANCHES
        forward_s = _FORWARD_FRACTION * self._times.estimate_bare_s(size) / size
        load_s = self._times.fetch_per_sample_s / _BRANCHES_OF_A_WORKER
        least, enough, most = _EVALUATION_SAMPLES

        def afford(count: int, wanted: int) -> int:
            return int(min(max(share_s / (count * forward_s + load_s), least), wanted))

        afforded = (share_s / afford(_LEAST_EVALUATIONS, enough) - load_s) / forward_s
        count = int(min(max(afforded, _LEAST_EVALUATIONS), TRIAL_EVALUATIONS))
        if self.run.facts.script is not None:
            count = TRIAL_EVALUATIONS
        return count, afford(count, most)

    @property
    def is_too_short(self) -> bool:
        """Whether the time leaves fewer steps than are worth judging."""
        return self.base_steps < min(LEAST_STEPS, self.wanted_steps)

    @property
    def least_s(self) -> float:
        """Seconds of the shortest race, with the starts of its workers."""
        return _LEAST_BRANCHES * (self._planned_start_s + LEAST_STEPS * self._trial_step_s)

    @property
    def has_begun(self) -> bool:
        """Whether anything was trained."""
        return bool(self._branch_s)

    def find_way(self, global_batch_size: int) -> Candidate:
        """Return the way to make a batch of those that may be tried."""
        way = find_way(self.ways, global_batch_size)
        assert way is not None
        return way

    def list_pair(self, pair: PairKey) -> list[TrialBranch]:
        """Return the branches of a pair."""
        return [each for each in self.run.record.all(TRIALS) if is_same(each.key, pair)]

    def is_only_bound(self, pair: PairKey, seeds: Sequence[int]) -> bool:
        """Return whether a pair's ends from these starts say only that it was as low sooner."""
        sides = (self.list_pair(pair), self.list_pair(self.pair.key))
        return is_only_bound(*([each for each in side if each.seed in seeds] for side in sides))

    def train_base(self, seeds: tuple[int, ...], lengths: Sequence[float]) -> None:
        """Train the base pair for these shares of its longest branch."""
        self.train(self.make(*self.pair.key, lengths, seeds))

    def make(
        self, size: int, rate: float, ratios: Sequence[float], seeds: tuple[int, ...]
    ) -> TrialTask:
        """Return a pair with the settings that go with it, for shares of the base pair's time.

        The longest comes first.
        """
        way, whole = self.find_way(size), self._count_whole_steps(size)
        most = self._lasts_steps.get(size, math.inf)
        changes = propose_optimizer_changes(self.facts.optimizer, self.pair.key, (size, rate))
        longest, *shorter = (
            int(min(max(_LEAST_BRANCH_STEPS, round(ratio * whole)), most)) * size
            for ratio in ratios
        )
        return make_trial(
            self.run,
            largest=self.ways[-1].micro_batch_size,
            micro_batch_size=way.micro_batch_size,
            gradient_accumulation_steps=way.gradient_accumulation_steps,
            learning_rate=rate,
            beta2=changes.beta2,
            weight_decay=changes.weight_decay,
            samples=longest,
            shorter_samples=tuple(shorter),
            seeds=seeds,
            decay_fraction=DECAY_FRACTION,
            warmup_steps=math.ceil(WARMUP_FRACTION * whole),
            evaluations=self._evaluations,
            evaluation_samples=self._evaluation_samples,
        )

    def train(self, task: TrialTask, watch: Callable[[TrialBranch], None] | None = None) -> None:
        """Train and keep branches; `watch` may end that by a BeatenError.

        Where a script ends before, they are as long as it lasts: a rate that does not come to its
        fall in the end makes others look better. WorkloadError where the base pair's are too short.
        """
        run, size, left_s = self.run, task.global_batch_size, self.run.left_s
        run.progress.stage(f"trial: batch {size}, rate {task.learning_rate:.3g}", left_s=left_s)
        started, before = time.monotonic(), run.record.all(TRIALS)
        is_script = run.facts.script is not None

        def see(branch: TrialBranch) -> None:
            is_first = len(run.record.all(TRIALS)) == len(before) + 1  # the longest
            if is_script and is_first and branch.samples < task.samples and not branch.diverged:
                self._lasts_steps[size] = branch.samples // size
                raise BeatenError
            if watch is not None:
                watch(branch)

        with contextlib.suppress(BeatenError):
            run_starts(run, task, TRIALS, see)
        steps = self._lasts_steps.get(size, task.samples // size)
        if steps < task.samples // size:
            run.replace(TRIALS, before)
            self._see_end(size, steps)
            self.train(_shorten(task, steps), watch)
            return
        trained = run.record.all(TRIALS)[len(before) :]
        if trained:
            samples = sum(each.samples for each in trained)
            share = samples / (self._count_whole_steps(size) * size)
            trained_s = time.monotonic() - started - len(trained) * self._start_s
            self._branch_s[size] = max(0.0, trained_s) / share
        else:
            self.is_over = True
            self.say_untrained(f"batch {size} ran out of memory when it was trained")

    def _see_end(self, size: int, steps: int) -> None:
        """Take in that the script ends after so many steps of a batch."""
        said = f"{self.facts.file} ended after {steps} steps of batch {size}"
        if size == self.pair.global_batch_size:
            self.base_steps = min(self.base_steps, steps)
        if self.is_too_short:
            raise WorkloadError(
                f"{said}, too few to train others beside",
                next_step="Let it run for more steps or epochs.",
            )
        self.run.progress.note(f"trial: {said}: it is trained as long")

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
        if not self.list_pair(self.pair.key):
            if self.run.record.get(UNTRAINED) != why:
                self.run.progress.note(f"trial: {why}")
            self.run.set(UNTRAINED, why)

    def predict_race_s(self) -> float:
        """Return the seconds of a whole race: half its branches the base pair's, half the law's."""
        if not self.has_begun:
            return 0.0
        own = self.pair.global_batch_size
        sizes = [way.global_batch_size for way in self.law.choose(self.ways)] or [own]
        others_s = statistics.fmean(self.predict_s(each, (1.0,)) for each in sizes)
        return BRANCHES * (self.predict_s(own, (1.0,)) + others_s) / 2.0

    def predict_s(self, size: int, lengths: Sequence[float]) -> float:
        """Return the seconds of branches of such shares of the base pair's, by the nearest size.

        A trial loads for itself: where the user's loop waits for data, there is time for more steps
        of a large batch than it trains in as long.
        """

        def weigh(size: int) -> float:
            alone_s = self._times.estimate_alone_s(*self.find_way(size).split)
            return alone_s * self._count_whole_steps(size)

        near = min(self._branch_s, key=lambda other: abs(math.log(other / size)))
        branch_s = self._branch_s[near] * weigh(size) / weigh(near)
        return len(lengths) * self._start_s + sum(lengths) * branch_s

    def _count_whole_steps(self, size: int) -> float:
        """Return the steps of a batch that take the time of the base pair's longest branch."""
        return self.base_steps * (self.base.step_s / self.find_way(size).step_s)


def _shorten(task: TrialTask, steps: int) -> TrialTask:
    """Return the task with its longest branch as many steps, and the others shorter as well."""
    size, whole = task.global_batch_size, task.samples
    shorter = (max(1, round(each * steps / whole)) * size for each in task.shorter_samples)
    return replace(task, samples=steps * size, shorter_samples=tuple(shorter))
