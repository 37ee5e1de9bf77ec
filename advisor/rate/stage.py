"""The trial: pairs of batch and rate are trained briefly before one of them is printed.

All start from the same weights and aim at the loss that the user's own pair ends on. At the batch
that noise and speed lead to the rate is moved to its best; then the same at the neighbours of the
best batch so far, for as long as they can be faster.
"""

import math
import time
from collections.abc import Callable

import msgspec

from advisor.engine.run import Run
from advisor.engine.runner import WorkerDeathError, WorkerTimeoutError
from advisor.rate.best_rate import rank_rate
from advisor.rate.data import Advised, TrialTask
from advisor.rate.next_batch import choose_next_batch
from advisor.rate.next_rate import TriedRate, choose_next_rate
from advisor.rate.trial_tasks import TrialTasks
from advisor.rate.tried import Tried, conclude_trials, is_same, plan_pair
from advisor.statistics import Estimate
from advisor.throughput.data import ThroughputConclusion

#: Starts from which the pair to advise is confirmed; the trial's tasks use none of them.
_CONFIRMING_SEEDS = (3, 4, 5)
#: Share of the time left that the trial may take; the rest is for the soak.
_BUDGET_FRACTION = 0.85


def run_trial(
    run: Run,
    advise: Callable[[], Advised | None],
    throughput: ThroughputConclusion | None,
    noise: Estimate | None,
) -> None:
    """Train the user's own pair, then pairs at the planned batch and its neighbours.

    Leaves the record as it is where there is nothing to try; the recommendation then says why.
    """
    advice, facts = advise(), run.facts
    if facts.optimizer is None or not facts.has_dataset or run.is_spent:
        return
    if advice is None or throughput is None:
        return
    rate = advice.learning_rate
    if rate.proposed is None or rate.base_value is None or rate.base_batch_size is None:
        return  # without a base batch the range test's stage has tried its own rate
    time_s = _BUDGET_FRACTION * run.left_s
    deadline = time.monotonic() + time_s
    tasks = TrialTasks(run, advice, noise, time_s)
    try:
        _Trial(run, tasks, deadline, advise, throughput, noise).train_pairs()
    except WorkerTimeoutError:
        run.progress.note("trial: it took longer than the time left")
    except WorkerDeathError as death:  # what was tried before still stands
        run.progress.note(f"trial: {death.message}")


class _Trial:
    """The pairs of one run: what was planned, what was trained, and the time for it."""

    def __init__(
        self,
        run: Run,
        tasks: TrialTasks,
        deadline: float,
        advise: Callable[[], Advised | None],
        throughput: ThroughputConclusion,
        noise: Estimate | None,
    ) -> None:
        self._run = run
        self._advise, self._throughput, self._noise = advise, throughput, noise
        self._tasks = tasks
        self._deadline = deadline
        self._tried = Tried()  # what the pairs trained so far show
        self._trained: list[TrialTask] = []  # besides the user's own pair
        self._sample_s: dict[int, float] = {}  # as trained, by batch

    def train_pairs(self) -> None:
        """Train pairs until no other can be faster, or the time is up."""
        run, tasks = self._run, self._tasks
        if tasks.are_too_short():
            run.progress.note("trial: no time left to try the advised rate")
            return
        base = tasks.make_base_task()
        if base is None:
            run.progress.note(f"trial: batch {tasks.base_size} does not fit and cannot be split")
            return
        self._train(base)
        climbed: dict[int, float | None] = {}
        step_s = tasks.list_step_times_s()
        while (tried := self._tried).base is not None and tried.base.passed:
            base_time = None if tried.base_time_s is None else (tasks.base_size, tried.base_time_s)
            size = choose_next_batch(step_s, tasks.planned_size, climbed, base_time)
            if size is None or not self._try_rates(size):
                break
            climbed[size] = self._tried.times_s.get(size)
        self._confirm()

    def _confirm(self) -> None:
        """Train the advised pair from further starts; where it fails, the next best, and so on."""
        confirmed: list[TrialTask] = []
        while (task := self._find_advised()) is not None and task not in confirmed:
            trials = len(self._run.record.trials)
            if self._predict_s(task) <= self._deadline - time.monotonic():
                self._train(
                    msgspec.structs.replace(
                        task, seeds=_CONFIRMING_SEEDS, budget_s=self._run.left_s
                    )
                )
            if len(self._run.record.trials) < trials + len(_CONFIRMING_SEEDS):
                note = "trial: no time left to train the advised pair from further starts"
                self._run.progress.note(note)
                return
            confirmed.append(task)
            self._try_rates(_get_batch_size(task))  # lower ones, if it failed

    def _find_advised(self) -> TrialTask | None:
        """Return the pair that would be advised now; None without one, or if it is the base pair's.

        The user's own pair is what the others are measured by, and needs no confirmation.
        """
        advice = self._advise()
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
            value = choose_next_rate(rate.proposed, self._tasks.base_rate, tried, start=start)
            if value is None:
                return True
            task = self._tasks.make_task(size, value, self._tried)
            # Without the first one there is nothing to advise; of all, the one that wins is to be
            # confirmed.
            confirming_s = max(map(self._predict_s, [*self._trained, task]))
            needed_s = self._predict_s(task) + confirming_s
            if self._trained and needed_s > self._deadline - time.monotonic():
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
            on_result=run.keep_trial,
        )
        elapsed_s = time.monotonic() - started
        self._sample_s[size] = elapsed_s / (len(task.seeds) * task.samples)
        self._tried = conclude_trials(run.facts, run.record.trials, self._throughput, self._noise)

    def _predict_s(self, task: TrialTask) -> float:
        """Return the time of a task by that of a sample at the nearest batch trained so far.

        The loading of samples is part of it, which no step time holds.
        """
        size = _get_batch_size(task)
        near = min(self._sample_s, key=lambda other: abs(math.log(other / size)))
        return len(task.seeds) * task.samples * self._sample_s[near]


def _get_batch_size(task: TrialTask) -> int:
    return task.micro_batch_size * task.gradient_accumulation_steps
