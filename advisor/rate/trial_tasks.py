"""The branches of a trial: their batch, rate and length; they differ in nothing else."""

import msgspec

from advisor.engine.budget import EVALUATION_OF_TRIAL
from advisor.engine.run import Run
from advisor.memory.split import split_batch
from advisor.noise.data import get_working_noise_scale, predict_relative_samples
from advisor.rate.data import TRIAL_EVALUATIONS, Advised, TrialTask
from advisor.rate.rules import plan_pair
from advisor.rate.trial import Tried
from advisor.statistics import Estimate
from advisor.throughput.step_time import StepTimes, estimate_step_s

#: Starts from which every pair is trained.
SEEDS = (0, 1, 2)
#: Optimizer steps of the planned pair that the trial aims at where the user names no length, and
#: the least worth judging.
STEPS, LEAST_STEPS = 100, 20
#: Samples of one evaluation pass where memory allows.
_EVALUATION_BATCH = 64
#: Samples of an evaluation: as many as its share of the trial's time allows, within this range.
_EVALUATION_SAMPLES = 64, 512
#: Time of a forward pass over that of a step.
_FORWARD_FRACTION = 1.0 / 3.0
#: Tasks that are expected besides the base pair's, for the division of the time: four rates, and
#: the best one once more from further starts.
_EXPECTED_TASKS = 5
#: Time of a trial step over a timed step: data loading and evaluation come on top.
_OVERHEAD = 1.5
#: Steps of a branch over those that the noise scale predicts, and its time over that of the best
#: pair so far: room for the target to come late, and beyond the second it is of no use.
_MOST_STEPS_RATIO, _MOST_TIME_RATIO = 1.5, 1.15
#: Fewest steps of any branch: fewer show no curve.
_LEAST_BRANCH_STEPS = 4


def make_task(
    run: Run, micro_batch_size: int, accumulation: int, rate: float, *, steps: int, largest: int
) -> TrialTask:
    """Return a branch at one batch and rate; all that are compared have the same largest size."""
    return TrialTask(
        workload=run.spec.workload,
        micro_batch_size=micro_batch_size,
        gradient_accumulation_steps=accumulation,
        learning_rate=rate,
        samples=steps * micro_batch_size * accumulation,
        seeds=SEEDS,
        evaluation_batch_size=max(run.facts.min_micro_batch_size, min(_EVALUATION_BATCH, largest)),
        loss_is_sum=run.facts.loss_reduction == "sum",
        budget_s=run.left_s,
    )


class TrialTasks:
    """Makes the tasks of one run's trial, which may take `time_s`.

    Attributes:
        step_s: Seconds of a step at each batch that may be tried: all, or the one given.
        planned_size: The batch that noise and speed lead to.
    """

    def __init__(self, run: Run, advice: Advised, noise: Estimate | None, time_s: float) -> None:
        rate = advice.learning_rate
        assert rate.base_value is not None
        assert rate.base_batch_size is not None
        self._run, self._noise, self._ways = run, noise, advice.ways
        self._times = StepTimes(step_s={size: way.step_s for size, way in advice.ways.items()})
        self._largest = max(way.micro_batch_size for way in advice.ways.values())
        self._is_given = run.spec.limits.global_batch_size is not None
        self.planned_size = advice.global_batch_size
        self.base_size, self.base_rate = rate.base_batch_size, rate.base_value
        sizes = [self.planned_size] if self._is_given else [*advice.ways]
        self.step_s = {size: advice.ways[size].step_s for size in sizes}
        self._steps: dict[int, int] = {}  # of the branches made last, by batch
        self._evaluation_samples = self._choose_evaluation_samples(time_s)
        self._base_steps = self._choose_base_steps(time_s)

    def are_too_short(self) -> bool:
        """Return whether the time leaves fewer steps than are worth judging."""
        least = round(LEAST_STEPS / self._compare_steps(self.planned_size))
        return self._base_steps < min(self._run.spec.limits.noise_steps or least, least)

    def make_base_task(self) -> TrialTask | None:
        """Return the user's own pair, accumulated where its batch does not fit and can be split."""
        smallest = self._run.facts.min_micro_batch_size
        split = split_batch(self.base_size, largest=self._largest, smallest=smallest)
        return None if split is None else self._make(*split, self.base_rate, self._base_steps)

    def make_task(self, size: int, rate: float, tried: Tried) -> TrialTask:
        """Return a pair with the settings that go with its batch.

        It need not train for much longer than the best of those tried so far.
        """
        way = self._ways[size]
        micro, accumulation = way.micro_batch_size, way.gradient_accumulation_steps
        changes = plan_pair(self._run.facts, size, self._noise)[1]
        return msgspec.structs.replace(
            self._make(micro, accumulation, rate, self._choose_steps(size, tried)),
            beta2=changes.beta2,
            weight_decay=changes.weight_decay,
        )

    def _make(self, micro: int, accumulation: int, rate: float, steps: int) -> TrialTask:
        task = make_task(self._run, micro, accumulation, rate, steps=steps, largest=self._largest)
        return msgspec.structs.replace(task, evaluation_samples=self._evaluation_samples)

    def _choose_steps(self, size: int, tried: Tried) -> int:
        """Return the steps of a branch: up to where its target is of no more use."""
        known, batch = tried.times_s, tried.batches.get(size)
        if batch is not None and batch.ranking_loss is None and size in self._steps:
            return self._steps[size]  # its rates are compared after equal samples
        rivals = [known.get(size)] if self._is_given else known.values()
        times = [time_s for time_s in rivals if time_s is not None]
        limits = [_MOST_TIME_RATIO * min(times) / self._ways[size].step_s] if times else []
        if size == self.planned_size or not times:
            limits.append(_MOST_STEPS_RATIO * self._base_steps * self._compare_steps(size))
        # One more, since the mean curve ends one short.
        self._steps[size] = max(_LEAST_BRANCH_STEPS, round(min(limits)) + 1)
        return self._steps[size]

    def _choose_base_steps(self, time_s: float) -> int:
        """Return the steps of the user's own pair that the time allows for all branches."""
        per_step = self._compare_steps(self.planned_size)
        wanted = self._run.spec.limits.noise_steps or round(STEPS / per_step)
        base_s = estimate_step_s(self._times, self.base_size) or 0.0
        rates_s = _MOST_STEPS_RATIO * per_step * self._ways[self.planned_size].step_s
        if not self._is_given:
            rates_s = min(rates_s, _MOST_TIME_RATIO * base_s)
        each_s = _OVERHEAD * len(SEEDS) * (base_s + _EXPECTED_TASKS * rates_s)
        return min(wanted, int(time_s / each_s))

    def _choose_evaluation_samples(self, time_s: float) -> int:
        """Return the samples of each evaluation, the same for all branches."""
        step_s = estimate_step_s(self._times, _EVALUATION_BATCH) or 0.0
        pass_s = _FORWARD_FRACTION * step_s / _EVALUATION_BATCH
        passes = (1 + _EXPECTED_TASKS) * len(SEEDS) * TRIAL_EVALUATIONS
        least, most = _EVALUATION_SAMPLES
        return min(max(int(EVALUATION_OF_TRIAL * time_s / (passes * pass_s)), least), most)

    def _compare_steps(self, size: int) -> float:
        """Return the steps to a loss at a batch over those at the base batch, predicted."""
        ratio, scale = self.base_size / size, get_working_noise_scale(self._noise)
        if scale is None:
            return ratio
        samples = predict_relative_samples(size, scale)
        return ratio * samples / predict_relative_samples(self.base_size, scale)
