"""The branches of a race: their batch, rate and length; they differ in nothing else."""

import math
from collections.abc import Sequence

from msgspec.structs import replace

from advisor.engine.budget import EVALUATION_OF_TRIAL
from advisor.engine.run import Run
from advisor.race.data import BasePair
from advisor.race.law import read_law
from advisor.race.loop_time import LOOP_TIMES
from advisor.race.plan import anchor
from advisor.race.ways import find_way
from advisor.rate.data import TRIAL_EVALUATIONS, Candidate, TrialTask
from advisor.rate.range_stage import choose_evaluation_batch, make_trial
from advisor.rate.rules import plan_changes
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


class Branches:
    """Makes the tasks of one race, which may take `time_s`.

    Attributes:
        law: Of the batches before they are trained.
        facts: With the base pair as the one that rules scale from.
        start_s: Of a branch that is a start of its own; 0 where a process has many.
        wanted_steps: Of the base pair's longest branch; and `base_steps`, what the time allows.
    """

    def __init__(self, run: Run, pair: BasePair, ways: Sequence[Candidate], time_s: float) -> None:
        times = run.of(LOOP_TIMES)
        assert times is not None
        self._run, self._ways, self._times = run, ways, times
        self.law = read_law(run.conclusions)
        self.base = base = self.find_way(pair.global_batch_size)
        self._trial_step_s = _OVERHEAD * self._estimate_alone_s(base)
        self.start_s = 0.0 if run.facts.script is None else run.start_s
        self._planned_start_s = self.start_s or run.start_s / _BRANCHES_OF_A_WORKER
        self.facts = anchor(run.facts, pair)
        limits, size = run.spec.limits, run.facts.dataset_size
        most = STEPS if size is None else round(_MOST_EPOCHS * size / pair.global_batch_size)
        asked = limits.train_steps or limits.noise_steps
        self.wanted_steps = asked or min(STEPS, max(most, _WANTED_STEPS))
        script = run.facts.script
        follows = script is None or script.script.stretches_schedule
        if not (run.facts.has_scheduler and follows):  # the rate falls beyond what is compared
            self.wanted_steps = math.ceil(self.wanted_steps / (1.0 - DECAY_FRACTION))
        many, few = (
            int(max(0.0, time_s / count - self._planned_start_s) / self._trial_step_s)
            for count in (BRANCHES, _LEAST_BRANCHES)
        )
        self.base_steps = min(self.wanted_steps, max(many, min(few, _WANTED_STEPS)))
        self._evaluations, self._evaluation_samples = self._plan_evaluations(time_s)

    @property
    def are_too_short(self) -> bool:
        """Whether the time leaves fewer steps than are worth judging."""
        return self.base_steps < min(LEAST_STEPS, self.wanted_steps)

    @property
    def least_s(self) -> float:
        """Seconds of the shortest race, with the starts of its workers."""
        return _LEAST_BRANCHES * (self._planned_start_s + LEAST_STEPS * self._trial_step_s)

    def find_way(self, global_batch_size: int) -> Candidate:
        """Return the way to make a batch of those that may be tried."""
        way = find_way(self._ways, global_batch_size)
        assert way is not None
        return way

    def make_pair(
        self, size: int, rate: float, ratios: Sequence[float], seeds: tuple[int, ...]
    ) -> TrialTask:
        """Return a pair with the settings that go with it, for shares of the base pair's time."""
        way, whole = self.find_way(size), self.count_whole_steps(size)
        changes = plan_changes(self.facts, size, self.law.noise, rate)
        return replace(
            self.make(way, rate, [ratio * whole for ratio in ratios], seeds),
            beta2=changes.beta2,
            weight_decay=changes.weight_decay,
        )

    def make(
        self, way: Candidate, rate: float, steps: Sequence[float], seeds: tuple[int, ...]
    ) -> TrialTask:
        """Return branches of so many steps, the longest first."""
        longest, *shorter = (
            max(_LEAST_BRANCH_STEPS, round(each)) * way.global_batch_size for each in steps
        )
        return make_trial(
            self._run,
            largest=self._ways[-1].micro_batch_size,
            micro_batch_size=way.micro_batch_size,
            gradient_accumulation_steps=way.gradient_accumulation_steps,
            learning_rate=rate,
            samples=longest,
            shorter_samples=tuple(shorter),
            seeds=seeds,
            decay_fraction=DECAY_FRACTION,
            warmup_steps=math.ceil(WARMUP_FRACTION * self.count_whole_steps(way.global_batch_size)),
            evaluations=self._evaluations,
            evaluation_samples=self._evaluation_samples,
        )

    def count_whole_steps(self, size: int) -> float:
        """Return the steps of a batch that take the time of the base pair's longest branch."""
        return self.base_steps * self.base.step_s / self.find_way(size).step_s

    def weigh(self, size: int) -> float:
        """Return the time of a batch's branch over that of the base pair's, both trained alone.

        Above 1 where the user's loop waits for data: it has time for large batches' steps.
        """
        way = self.find_way(size)
        ratio = self._estimate_alone_s(way) / self._estimate_alone_s(self.base)
        return ratio * self.count_whole_steps(size) / self.base_steps

    def _estimate_alone_s(self, way: Candidate) -> float:
        return self._times.estimate_alone_s(*way.split)

    def _plan_evaluations(self, time_s: float) -> tuple[int, int]:
        """Return the evaluations of a branch and the samples of each, the same for all branches.

        A worker loads the samples once. Those of a script are means over training's own batches and
        cost nothing.
        """
        size = choose_evaluation_batch(self._run, self._ways[-1].micro_batch_size)
        share_s = EVALUATION_OF_TRIAL * time_s / BRANCHES
        forward_s = _FORWARD_FRACTION * self._times.estimate_bare_s(size) / size
        load_s = self._times.fetch_per_sample_s / _BRANCHES_OF_A_WORKER
        least, enough, most = _EVALUATION_SAMPLES

        def afford(count: int, wanted: int) -> int:
            return int(min(max(share_s / (count * forward_s + load_s), least), wanted))

        afforded = (share_s / afford(_LEAST_EVALUATIONS, enough) - load_s) / forward_s
        count = int(min(max(afforded, _LEAST_EVALUATIONS), TRIAL_EVALUATIONS))
        if self._run.facts.script is not None:
            count = TRIAL_EVALUATIONS
        return count, afford(count, most)
