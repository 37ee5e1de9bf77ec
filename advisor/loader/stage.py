"""The loader stage: does training wait for its data, and how many workers would end that?"""

from collections.abc import Callable

from advisor.engine.budget import LOADER_END_OF_LEFT
from advisor.engine.run import Run
from advisor.engine.runner import WorkerDeathError, WorkerTimeoutError
from advisor.errors import UsageError
from advisor.loader.data import LOADER_TIMINGS, LoaderTask


def check_epoch(run: Run) -> None:
    """Raise UsageError where an epoch has a cost and no length."""
    if run.spec.limits.epoch_overhead_s and run.facts.dataset_size is None:
        raise UsageError(
            "--epoch-overhead needs a dataset whose length is known",
            next_step="Give the dataset a __len__, or leave --epoch-overhead out.",
        )


def run_loader(run: Run, find_size: Callable[[], int | None]) -> None:
    """Time the user's loader at the advised micro-batch, where there is real data to load.

    It comes before the trial, which takes nearly all of the time left and settles the rate, not the
    batch. `find_size` returns the advised micro-batch.
    """
    if not run.facts.has_dataset or run.spec.limits.no_loader:
        return
    size = find_size()
    if size is None or run.is_spent:
        run.progress.note("loader: no time left to measure it")
        return
    run.progress.stage(f"loader: micro-batch {size}", left_s=run.left_s)
    task = LoaderTask(
        workload=run.spec.workload,
        micro_batch_size=size,
        budget_s=run.share_s("loader"),
    )
    try:
        run.runner.run(
            task,
            timeout_s=LOADER_END_OF_LEFT * run.left_s,
            on_result=lambda timing: run.add(LOADER_TIMINGS, timing),
        )
    except WorkerTimeoutError:
        run.progress.note("loader: it took longer than the time left")
    except WorkerDeathError as death:
        run.progress.note(f"loader: {death.message}")
