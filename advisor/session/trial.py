"""The trial: pairs of batch and rate are trained briefly before one of them is printed.

All start from the same weights and aim at the loss that the user's own pair ends on. At the batch
that noise and speed lead to the rate is moved to its best; then the same at the neighbours of the
best batch so far, for as long as they can be faster.
"""

import math
import time
from typing import cast

import msgspec

from advisor.analysis.best_rate import rank_rate
from advisor.analysis.tradeoff import get_working_noise_scale, predict_relative_samples
from advisor.conclusions import Derived, Recommendation, TradeoffPoint
from advisor.measurements import OptimizerFacts, TrialBranch
from advisor.probe.runner import WorkerTimeoutError
from advisor.recommend import derive
from advisor.recommend.proposal import get_noise_scale
from advisor.recommend.tried import Tried, conclude_trials, is_same, plan_pair
from advisor.search.batch import choose_next_batch
from advisor.search.rate import TriedRate, choose_next_rate
from advisor.session.run import Run
from advisor.spec import TrialTask

#: Starts from which every pair is trained, and those from which the one to advise is confirmed.
_SEEDS, _CONFIRMING_SEEDS = (0, 1, 2), (3, 4, 5)
#: Optimizer steps of the planned pair that the trial aims at where the user names no length, and
#: the least worth judging.
_STEPS, _LEAST_STEPS = 100, 20
#: Evaluations along a branch: enough to compare curves of different batches at equal samples.
_EVALUATIONS = 20
#: Share of the time left that the trial may take; the rest is for the soak.
_BUDGET_FRACTION = 0.85
#: Samples of one evaluation pass where memory allows.
_EVALUATION_BATCH = 64
#: Samples of an evaluation: as many as take this share of the trial's time, within this range.
_EVALUATION_FRACTION, _EVALUATION_SAMPLES = 0.2, (64, 512)
#: Time of a forward pass over that of a step.
_FORWARD_FRACTION = 1.0 / 3.0
#: Rates that are expected to be tried, for the division of the time.
_EXPECTED_RATES = 4
#: Time of a trial step over a timed step: data loading and evaluation come on top.
_OVERHEAD = 1.5
#: Steps of a branch over those that the noise scale predicts, and its time over that of the best
#: pair so far: room for the target to come late, and beyond the second it is of no use.
_MOST_STEPS_RATIO, _MOST_TIME_RATIO = 1.5, 1.15
#: Fewest steps of any branch: fewer show no curve.
_LEAST_BRANCH_STEPS = 4


def run_trial(run: Run) -> None:
    """Train the user's own pair, then pairs at the planned batch and its neighbours.

    Leaves the record as it is where there is nothing to try; the recommendation then says why.
    """
    derived = derive(run.record)
    advice, optimizer = derived.recommendation, run.facts.optimizer
    if advice is None or optimizer is None or not run.facts.has_dataset or run.is_spent:
        return
    rate = advice.learning_rate
    if rate.proposed is None or rate.base_value is None or rate.base_batch_size is None:
        return  # without a base batch the range test's stage has tried its own rate
    try:
        _Trial(run, derived, advice, optimizer).train_pairs()
    except WorkerTimeoutError:
        run.progress.note("trial: it took longer than the time left")


class _Trial:
    """The pairs of one run: what was planned, what was trained, and the time for it."""

    def __init__(
        self, run: Run, derived: Derived, advice: Recommendation, optimizer: OptimizerFacts
    ) -> None:
        rate = advice.learning_rate
        assert rate.base_value is not None
        assert rate.base_batch_size is not None
        self._run = run
        self._derived = derived
        self._optimizer = optimizer
        self._points = {point.global_batch_size: point for point in advice.candidates}
        self._planned = advice.global_batch_size
        self._is_given = run.spec.limits.global_batch_size is not None
        self._base_size, self._base_rate = rate.base_batch_size, rate.base_value
        self._noise = get_noise_scale(derived.noise)
        self._base_step_s = self._estimate_step_s(self._base_size)
        self._deadline = time.monotonic() + _BUDGET_FRACTION * run.left_s
        self._tried = Tried()  # what the pairs trained so far show
        self._trained: list[TrialTask] = []  # besides the user's own pair
        self._sample_s: dict[int, float] = {}  # as trained, by batch
        self._steps: dict[int, int] = {}  # of the branches trained last, by batch
        self._evaluation_samples = self._choose_evaluation_samples()
        self._base_steps = self._choose_base_steps()

    def train_pairs(self) -> None:
        """Train pairs until no other can be faster, or the time is up."""
        run, least = self._run, self._count_least_steps()
        if self._base_steps < least:
            run.progress.note("trial: no time left to try the advised rate")
            return
        base = self._make_base_task()
        if base is None:
            run.progress.note(f"trial: batch {self._base_size} does not fit and cannot be split")
            return
        self._train(base)
        climbed: dict[int, float | None] = {}
        sizes = [self._planned] if self._is_given else [*self._points]
        step_s = {size: self._points[size].step_s for size in sizes}
        while (tried := self._tried).base is not None and tried.base.passed:
            base_time = None if tried.base_time_s is None else (self._base_size, tried.base_time_s)
            size = choose_next_batch(step_s, self._planned, climbed, base_time)
            if size is None or not self._try_rates(size):
                break
            climbed[size] = self._tried.times_s.get(size)
        self._confirm()

    def _confirm(self) -> None:
        """Train the advised pair from further starts; where it fails, the next best, and so on."""
        confirmed: list[TrialTask] = []
        while (task := self._find_advised()) is not None and task not in confirmed:
            if self._predict_s(task) > self._deadline - time.monotonic():
                self._run.progress.note("trial: no time left to train it from further starts")
                return
            self._train(
                msgspec.structs.replace(task, seeds=_CONFIRMING_SEEDS, budget_s=self._run.left_s)
            )
            confirmed.append(task)

    def _find_advised(self) -> TrialTask | None:
        """Return the pair that would be advised now; None without one, or if it is the base pair's.

        The user's own pair is what the others are measured by, and needs no confirmation.
        """
        advice = derive(self._run.record).recommendation
        if advice is None or advice.learning_rate.value is None:
            return None
        size, rate = advice.global_batch_size, advice.learning_rate.value
        return next(
            (
                task
                for task in self._trained
                if _get_batch_size(task) == size and is_same(task.learning_rate, rate)
            ),
            None,
        )

    def _try_rates(self, size: int) -> bool:
        """Move the rate at one batch to its best; return whether there was time to."""
        rate, _ = plan_pair(self._run.facts, size, self._noise)
        assert rate.proposed is not None
        start = rate.proposed * self._find_lead()
        while True:
            tried = self._list_tried(size)
            value = choose_next_rate(rate.proposed, self._base_rate, tried, start=start)
            if value is None:
                return True
            task = self._make_task(size, value)
            is_first = len(self._sample_s) == 1  # without it there is nothing to advise
            # Twice: what wins is to be confirmed.
            if not is_first and 2.0 * self._predict_s(task) > self._deadline - time.monotonic():
                return False
            self._train(task)
            self._trained.append(task)
            if len(self._list_tried(size)) == len(tried):  # cut short: nothing can be judged
                return False

    def _list_tried(self, size: int) -> list[TriedRate]:
        batch = self._tried.batches.get(size)
        if batch is None:
            return []
        return [
            TriedRate(
                rate=rate,
                passed=verdict.passed,
                rank=rank_rate(verdict, batch.ranking_loss) if verdict.passed else (),
            )
            for rate, verdict in batch.verdicts.items()
            if not verdict.is_too_short
        ]

    def _find_lead(self) -> float:
        """Return the best rate so far over the rule's at its batch, 1 before there is one."""
        tried = self._tried
        times = {
            size: time_s
            for size, time_s in tried.times_s.items()
            if time_s is not None and size in tried.batches
        }
        if not times:
            return 1.0
        best = min(times, key=lambda size: times[size])
        rate, value = plan_pair(self._run.facts, best, self._noise)[0], tried.batches[best]
        if value.best_rate is None or rate.proposed is None:
            return 1.0
        return value.best_rate / rate.proposed

    def _train(self, task: TrialTask) -> None:
        run, size = self._run, _get_batch_size(task)
        left_s = run.left_s
        run.progress.stage(f"trial: batch {size}, rate {task.learning_rate:.3g}", left_s=left_s)
        started = time.monotonic()
        run.runner.run(
            task,
            timeout_s=left_s,
            on_result=lambda branch: run.keep_trial(cast("TrialBranch", branch)),
        )
        elapsed_s = time.monotonic() - started
        self._sample_s[size] = elapsed_s / (len(task.seeds) * task.samples)
        throughput = self._derived.throughput
        assert throughput is not None
        self._tried = conclude_trials(run.facts, run.record.trials, throughput, self._noise)

    def _make_base_task(self) -> TrialTask | None:
        """Return the user's own pair, accumulated where its batch does not fit and can be split."""
        micro, size = self._base_size, self._base_size
        largest = max(point.micro_batch_size for point in self._points.values())
        if size > largest:
            smallest = self._run.facts.min_micro_batch_size
            fitting = (n for n in range(largest, smallest - 1, -1) if size % n == 0)
            found = next(fitting, None)
            if found is None:
                return None
            micro = found
        return self._build(micro, size // micro, self._base_rate, self._base_steps)

    def _make_task(self, size: int, rate: float) -> TrialTask:
        point = self._points[size]
        task = self._build(
            point.micro_batch_size,
            point.gradient_accumulation_steps,
            rate,
            self._choose_steps(point),
        )
        changes = plan_pair(self._run.facts, size, self._noise)[1]
        return msgspec.structs.replace(
            task,
            beta2=changes.beta2 if self._optimizer.beta2 is not None else None,
            weight_decay=changes.weight_decay,
        )

    def _build(self, micro: int, accumulation: int, rate: float, steps: int) -> TrialTask:
        """Return a task that differs from the others in nothing but the arguments."""
        run = self._run
        largest = max(point.micro_batch_size for point in self._points.values())
        return TrialTask(
            workload=run.spec.workload,
            micro_batch_size=micro,
            gradient_accumulation_steps=accumulation,
            learning_rate=rate,
            samples=steps * micro * accumulation,
            evaluations=_EVALUATIONS,
            evaluation_samples=self._evaluation_samples,
            seeds=_SEEDS,
            evaluation_batch_size=max(
                run.facts.min_micro_batch_size, min(_EVALUATION_BATCH, largest)
            ),
            loss_is_sum=run.facts.loss_reduction == "sum",
            budget_s=run.left_s,
        )

    def _choose_steps(self, point: TradeoffPoint) -> int:
        """Return the steps of a branch: up to where its target is of no more use."""
        size, tried = point.global_batch_size, self._tried
        known, batch = tried.times_s, tried.batches.get(size)
        if batch is not None and batch.ranking_loss is None and size in self._steps:
            return self._steps[size]  # its rates are compared after equal samples
        rivals = [known.get(size)] if self._is_given else known.values()
        times = [time_s for time_s in rivals if time_s is not None]
        limits = [_MOST_TIME_RATIO * min(times) / point.step_s] if times else []
        if size == self._planned or not times:
            limits.append(_MOST_STEPS_RATIO * self._base_steps * self._compare_steps(size))
        # One more, since the mean curve ends one short.
        self._steps[size] = max(_LEAST_BRANCH_STEPS, round(min(limits)) + 1)
        return self._steps[size]

    def _choose_base_steps(self) -> int:
        """Return the steps of the user's own pair that the time allows for all branches."""
        per_step = self._compare_steps(self._planned)
        wanted = self._run.spec.limits.noise_steps or round(_STEPS / per_step)
        planned_s = per_step * self._points[self._planned].step_s
        rates_s = _MOST_STEPS_RATIO * planned_s
        if not self._is_given:
            rates_s = min(rates_s, _MOST_TIME_RATIO * self._base_step_s)
        each_s = _OVERHEAD * len(_SEEDS) * (self._base_step_s + _EXPECTED_RATES * rates_s)
        return min(wanted, int((self._deadline - time.monotonic()) / each_s))

    def _choose_evaluation_samples(self) -> int:
        """Return the samples of each evaluation, the same for all branches."""
        pass_s = _FORWARD_FRACTION * self._estimate_step_s(_EVALUATION_BATCH) / _EVALUATION_BATCH
        branches = (1 + _EXPECTED_RATES) * len(_SEEDS)
        left_s = _EVALUATION_FRACTION * (self._deadline - time.monotonic())
        least, most = _EVALUATION_SAMPLES
        return min(max(int(left_s / (branches * _EVALUATIONS * pass_s)), least), most)

    def _count_least_steps(self) -> int:
        """Return the fewest base steps worth judging: none is too few for a run that is short."""
        per_step = self._compare_steps(self._planned)
        return min(self._run.spec.limits.noise_steps or 10**9, round(_LEAST_STEPS / per_step))

    def _compare_steps(self, size: int) -> float:
        """Return the steps to a loss at a batch over those at the base batch, predicted."""
        ratio = self._base_size / size
        scale = get_working_noise_scale(self._noise)
        if scale is None:
            return ratio
        return ratio * (
            predict_relative_samples(size, scale) / predict_relative_samples(self._base_size, scale)
        )

    def _predict_s(self, task: TrialTask) -> float:
        """Return the time of a task by that of a sample at the nearest batch trained so far.

        The loading of samples is part of it, which no step time holds.
        """
        size = _get_batch_size(task)
        near = min(self._sample_s, key=lambda other: abs(math.log(other / size)))
        return len(task.seeds) * task.samples * self._sample_s[near]

    def _estimate_step_s(self, size: int) -> float:
        """Return the seconds of a step, from the nearest measured size at least as large."""
        if size in self._points:
            return self._points[size].step_s
        larger = [each for each in self._points if each >= size]
        near = min(larger) if larger else max(self._points)
        return self._points[near].step_s * max(1.0, size / near)


def _get_batch_size(task: TrialTask) -> int:
    return task.micro_batch_size * task.gradient_accumulation_steps
