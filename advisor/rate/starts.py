"""Runs every start of a task that trains: one for a model file, one a branch for a script."""

from collections.abc import Callable
from typing import TypeVar

from advisor.engine.record import Series
from advisor.engine.run import Run
from advisor.rate.data import BranchTask

T = TypeVar("T")


def run_starts(
    run: Run, task: BranchTask[T], series: Series[T], watch: Callable[[T], None] | None = None
) -> tuple[T, ...]:
    """Keep each result as it comes, and return them all; `watch` may end that by an error."""

    def keep(result: T) -> None:
        run.add(series, result)
        if watch is not None:
            watch(result)

    return tuple(
        result
        for start in task.list_starts()
        for result in run.runner.run(start, timeout_s=run.left_s, on_result=keep)
    )
