"""What does a step take in the user's loop, and does training wait for its data?"""

from collections.abc import Sequence
from typing import TypeVar

from advisor.engine.budget import LOADER_END_OF_LEFT, LOADER_OF_LEFT, TIME_PLAN, describe_plan
from advisor.engine.question import Question
from advisor.engine.record import Series
from advisor.engine.run import Run
from advisor.engine.task import Task
from advisor.errors import UsageError
from advisor.loader.data import LOADER_TIMINGS, LOOP_TIMINGS, LoaderTask, LoopTask
from advisor.loader.plan import LOADER, choose_loop_sizes, choose_micro_batch
from advisor.loader.tell import brief_loader, tell_loader
from advisor.memory.plan import MEMORY
from advisor.throughput.conclude import THROUGHPUT

#: Seconds of a batch over those of a step from which on the plan is made again.
_LONG_FETCH_FRACTION = 0.5

T = TypeVar("T")


def check_epoch(run: Run) -> None:
    """Raise UsageError where an epoch has a cost and no length."""
    if run.spec.limits.epoch_overhead_s and run.facts.dataset_size is None:
        raise UsageError(
            "--epoch-overhead needs a dataset whose length is known",
            next_step="Give the dataset a __len__, or leave --epoch-overhead out.",
        )


def run_loader(run: Run) -> None:
    """Time the user's loop at several batches, then the loader at the base batch.

    It comes before the advice, since what a step takes in the user's loop decides.
    """
    if not run.facts.has_dataset or run.facts.script is not None:
        return  # the steps of a script were timed with their loading
    memory, multiple = run.of(MEMORY), run.spec.limits.batch_multiple
    largest = None if memory is None else memory.max_micro_batch_size
    size = choose_micro_batch(run.facts, largest, batch_multiple=multiple)
    if size is None or run.is_spent:
        run.progress.note("loader: no time left to measure it")
        return
    throughput = run.of(THROUGHPUT)
    timed = [point.micro_batch_size for point in throughput.points] if throughput else []
    time_loop(run, choose_loop_sizes(size, timed or [size], batch_multiple=multiple))
    _plan_again(run)
    if run.spec.limits.no_loader or run.is_spent:
        return
    run.progress.stage(f"loader: micro-batch {size}", left_s=run.left_s)
    task = LoaderTask(
        workload=run.spec.workload, micro_batch_size=size, budget_s=choose_loop_s(run) / 2.0
    )
    _time(run, task, LOADER_TIMINGS)


def _plan_again(run: Run) -> None:
    """Plan the rest with what fetching a batch costs, where that is much beside a step."""
    plan, timings = run.record.get(TIME_PLAN), run.record.all(LOOP_TIMINGS)
    if plan is None or not timings:
        return
    fetch_s = timings[-1].fetch_s
    if fetch_s > _LONG_FETCH_FRACTION * plan.step_s:
        again = run.plan(plan.step_s + fetch_s, first="loader")
        run.progress.plan(describe_plan(again))


def time_loop(run: Run, micro_batch_sizes: Sequence[int]) -> None:
    """Time steps of the user's loop at these sizes, beside each other."""
    sizes = ", ".join(map(str, micro_batch_sizes))
    run.progress.stage(f"your loop: micro-batches {sizes}", left_s=run.left_s)
    task = LoopTask(
        workload=run.spec.workload,
        micro_batch_sizes=tuple(micro_batch_sizes),
        is_in_memory=run.spec.limits.no_loader,
        budget_s=choose_loop_s(run),
    )
    _time(run, task, LOOP_TIMINGS)


def _time(run: Run, task: Task[T], series: Series[T]) -> None:
    """Keep what a worker times; what it had when it ended stands."""
    left_s = LOADER_END_OF_LEFT * run.left_s
    with run.noting_ends("loader"):
        run.runner.run(task, timeout_s=left_s, on_result=lambda timing: run.add(series, timing))


def choose_loop_s(run: Run) -> float:
    """Return the seconds in which steps of the user's loop are timed."""
    return max(run.share_s("loader"), LOADER_OF_LEFT * run.unspent_s)


QUESTION = Question(
    name="loader",
    keys=(LOOP_TIMINGS, LOADER_TIMINGS),
    topics=(LOADER,),
    check=check_epoch,
    run=run_loader,
    tell=tell_loader,
    brief=brief_loader,
    fails_alone=True,
)
