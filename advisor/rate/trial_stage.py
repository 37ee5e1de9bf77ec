"""The trial: pairs of batch and rate are trained briefly before one of them is printed."""

import math
import time
from collections.abc import Callable

import msgspec

from advisor.engine.run import Run
from advisor.noise.plan import NOISE
from advisor.rate.data import TRIALS, Advised, TrialTask
from advisor.rate.rules import plan_pair
from advisor.rate.search import choose_next_batch, choose_next_rate
from advisor.rate.trial import TRIED, Tried, is_same
from advisor.rate.trial_tasks import TrialTasks

#: Starts from which the pair to advise is confirmed; the trial's tasks use none of them.
_CONFIRMING_SEEDS = (3, 4, 5)


def run_trial(run: Run, advise: Callable[[], Advised | None]) -> None:
    """Train the user's own pair, then pairs at the planned batch and its neighbours.

    Leaves the record as it is where there is nothing to try; the recommendation then says why.
    """
    advice = advise()
    if advice is None or run.facts.optimizer is None or not run.facts.has_dataset or run.is_spent:
        return
    rate = advice.learning_rate
    if rate.proposed is None or rate.base_value is None or rate.base_batch_size is None:
        return  # without a base batch the range test's stage has tried its own rate
    with run.noting_ends("trial"):
        _Trial(run, advice, advise).train_pairs()


class _Trial:
    """The pairs of one run: what was planned, what was trained, and the time for it."""

    def __init__(self, run: Run, advice: Advised, advise: Callable[[], Advised | None]) -> None:
        time_s, noise = run.share_s("trial"), run.of(NOISE)
        self._deadline = time.monotonic() + time_s
        self._run, self._advise = run, advise
        self._noise = None if noise is None else noise.decisive
        self._tasks = TrialTasks(run, advice, self._noise, time_s)
        self._trained: list[TrialTask] = []  # besides the user's own pair
        self._sample_s: dict[int, float] = {}  # as trained, loading included, by batch

    @property
    def _tried(self) -> Tried:
        """What the pairs trained so far show."""
        return self._run.of(TRIED) or Tried()

    def train_pairs(self) -> None:
        """Train pairs until no other can be faster, or the time is up."""
        note, tasks = self._run.progress.note, self._tasks
        if tasks.are_too_short():
            note("trial: no time left to try the advised rate")
            return
        base = tasks.make_base_task()
        if base is None:
            note(f"trial: batch {tasks.base_size} does not fit and cannot be split")
            return
        self._train(base)
        climbed: dict[int, float | None] = {}
        while (tried := self._tried).base is not None and tried.base.passed:
            own = None if tried.base_time_s is None else (tasks.base_size, tried.base_time_s)
            size = choose_next_batch(tasks.step_s, tasks.planned_size, climbed, own)
            if size is None or not self._try_rates(size):
                break
            climbed[size] = self._tried.times_s.get(size)
        self._confirm()

    def _confirm(self) -> None:
        """Train the advised pair from further starts; where it fails, the next best, and so on."""
        run = self._run
        confirmed: list[TrialTask] = []
        while (task := self._find_advised()) is not None and task not in confirmed:
            trials = len(run.record.all(TRIALS))
            if self._predict_s(task) <= self._deadline - time.monotonic():
                again = msgspec.structs.replace(task, seeds=_CONFIRMING_SEEDS, budget_s=run.left_s)
                self._train(again)
            if len(run.record.all(TRIALS)) < trials + len(_CONFIRMING_SEEDS):
                run.progress.note(
                    "trial: no time left to train the advised pair from further starts"
                )
                return
            confirmed.append(task)
            self._try_rates(task.global_batch_size)  # lower ones, if it failed

    def _find_advised(self) -> TrialTask | None:
        """Return the pair that would be advised now; None without one, or if it is the base pair's.

        The user's own pair is what the others are measured by, and needs no confirmation.
        """
        advice = self._advise()
        if advice is None:
            return None
        size, rate = advice.global_batch_size, advice.learning_rate.value
        return next(
            (
                task
                for task in self._trained
                if task.global_batch_size == size and is_same(task.learning_rate, rate)
            ),
            None,
        )

    def _try_rates(self, size: int) -> bool:
        """Move the rate at one batch to its best; return whether there was time to."""
        proposed = self._propose(size)
        start = proposed * self._find_lead()
        while True:
            tried = self._rank_tried(size)
            value = choose_next_rate(proposed, self._tasks.base_rate, tried, start=start)
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
            if len(self._rank_tried(size)) == len(tried):  # cut short: nothing can be judged
                return False

    def _propose(self, size: int) -> float:
        proposed = plan_pair(self._run.facts, size, self._noise)[0].proposed
        assert proposed is not None
        return proposed

    def _rank_tried(self, size: int) -> dict[float, tuple[float, float] | None]:
        batch = self._tried.batches.get(size)
        return {} if batch is None else batch.rank_rates()

    def _find_lead(self) -> float:
        """Return the best rate so far over the rule's at its batch, 1 before there is one."""
        tried = self._tried
        times = {
            size: time_s
            for size, time_s in tried.times_s.items()
            if time_s is not None and size in tried.batches
        }
        best = min(times, key=lambda size: times[size], default=None)
        rate = None if best is None else tried.batches[best].best_rate
        return 1.0 if best is None or rate is None else rate / self._propose(best)

    def _train(self, task: TrialTask) -> None:
        run, size, left_s = self._run, task.global_batch_size, self._run.left_s
        run.progress.stage(f"trial: batch {size}, rate {task.learning_rate:.3g}", left_s=left_s)
        started = time.monotonic()
        run.runner.run(task, timeout_s=left_s, on_result=lambda branch: run.add(TRIALS, branch))
        elapsed_s = time.monotonic() - started
        self._sample_s[size] = elapsed_s / (len(task.seeds) * task.samples)

    def _predict_s(self, task: TrialTask) -> float:
        """Return the time of a task by that of a sample at the nearest batch trained so far."""
        size = task.global_batch_size
        near = min(self._sample_s, key=lambda other: abs(math.log(other / size)))
        return len(task.seeds) * task.samples * self._sample_s[near]
